"""`ordersync accounts`: the accounts that are kept in Redis."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ordersync_consumer.resources import nearest
from worker.accounts.rows import Disabled, RowError
from worker.accounts.sealing import opened, seal
from worker.accounts.store import AccountStore
from worker.admin.operator_log import login_name
from worker.cli.common.options import prepare
from worker.cli.common.output import ask_secret, say, say_json, say_lines
from worker.cli.common.params import ACCOUNT
from worker.cli.common.recorded import recorded
from worker.cli.common.redis import ask_back, client_of, reader_of
from worker.cli.render.tables import columns
from worker.clock import rfc3339
from worker.config.file_trust import refuse_foreign
from worker.errors import SettingsError
from worker.redis.clock import RedisClock
from worker.service.loop import run_async

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from worker.accounts.store import StoredRow
    from worker.config.settings import Settings

_COLUMNS = ("account", "from", "state", "gateway", "resources", "since")


@click.group(
    name="accounts",
    epilog="\b\nExamples:\n  ordersync accounts add acme --client-id 4711 --client-secret-file acme.secret\n"
    "  ordersync accounts list\n  ordersync accounts disable acme --reason 'contract ended'\n"
    "  ordersync accounts remove acme",
)
def command() -> None:
    """Add, list, disable and remove accounts that are kept in Redis. Workers take a change up within seconds.

    Their secrets are encrypted with ORDERSYNC_SECRET_KEY. Accounts of the settings and of the accounts file are listed,
    and changed where they are.
    """


@command.command(
    epilog="\b\nExamples:\n  ordersync accounts add acme --client-id 4711 --client-secret-file acme.secret\n"
    "  vault read -field=secret shop/acme | ordersync accounts add acme --client-id 4711 --client-secret-file -\n"
    "  ordersync accounts add acme --client-id 4711 --set api.requests_per_second=5 --set poll.preset=all"
)
@click.argument("name", type=ACCOUNT)
@click.option("--base-url", help="Address of the gateway.  [default: ORDERSYNC_API__BASE_URL]")
@click.option("--client-id", help="Production login: id of the service client.")
@click.option("--client-secret-file", metavar="FILE", help="File with its secret; - for standard input.")
@click.option("--username", help="Development login: user.")
@click.option("--password-file", metavar="FILE", help="File with the password; - for standard input.")
@click.option(
    "--header-file",
    "headers",
    metavar="NAME=FILE",
    multiple=True,
    help="Header of every request, and its file.",
)
@click.option(
    "--set",
    "values",
    metavar="NAME=VALUE",
    multiple=True,
    help="Another setting of the account, such as api.page_size=50 or poll.intervals='{\"orders\": 60}'.",
)
@click.option("--replace", is_flag=True, help="Replace an account that exists.")
@click.option("--by", help="Who adds it.  [default: your login name and this host]")
def add(
    *,
    name: str,
    base_url: str | None,
    client_id: str | None,
    client_secret_file: str | None,
    username: str | None,
    password_file: str | None,
    headers: tuple[str, ...],
    values: tuple[str, ...],
    replace: bool,
    by: str | None,
) -> None:
    """Add the account NAME, which all workers poll within seconds.

    Settings that are not given come from the environment of the workers, except for the login. Without a file for the
    secret, a terminal asks for it. Nothing is sent to OrderMesh; `ordersync status --account NAME` shows the first
    poll.
    """
    settings = prepare(quiet=True)
    api, poll = _given(values)
    api |= {
        key: text
        for key, text in (("base_url", base_url), ("client_id", client_id), ("username", username))
        if text
    }
    if client_id:
        api["client_secret"] = _secret(client_secret_file, "client secret", "--client-secret-file")
    if username:
        api["password"] = _secret(password_file, "password", "--password-file")
    if headers:
        api["headers"] = dict(_header(text) for text in headers)
    if not client_id and not username:
        raise SettingsError("The login is missing: add --client-id and --client-secret-file (or --username).")

    async def main() -> None:
        async with client_of(settings) as client:
            store, clock = AccountStore(client, settings.redis.keys), RedisClock(client)
            await clock.sync()
            before = await store.get(name)
            if before is not None and not replace:
                raise SettingsError(f"Account {name} exists. To replace it, add --replace.")
            _refuse_own(settings, name)
            try:
                row = seal(name, api, poll, settings, at=round(clock.now(), 3))
            except SettingsError as error:
                raise SettingsError(f"{name}: {error}") from None
            async with recorded(client, settings.redis.keys.of(name), by=by or ""):
                await store.put(name, row)
        say(
            f"{name} was {'replaced' if before else 'added'}. Workers with the same ORDERSYNC_SECRET_KEY take it up "
            "within seconds."
        )

    run_async(main)


@command.command(
    name="list", epilog="\b\nExamples:\n  ordersync accounts list\n  ordersync accounts list --json"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, as_json: bool) -> None:
    """List the accounts: those of the settings, and those in Redis.

    `state` is served, disabled, unknown where ORDERSYNC_SECRET_KEY is not set here, or the reason why workers cannot
    serve an account.
    """
    settings = prepare(quiet=True)

    async def main() -> None:
        async with reader_of(settings) as client:
            rows = await account_rows(client, settings)
        if as_json:
            say_json(rows)
        elif rows:
            say_lines(columns([_COLUMNS, *(_shown(row) for row in rows)]))
        else:
            say(
                "No accounts yet. Add one: ordersync accounts add NAME --client-id ID --client-secret-file FILE"
            )

    run_async(main)


@command.command(
    epilog="\b\nExamples:\n  ordersync accounts remove acme\n  ordersync accounts remove acme --yes"
)
@click.argument("name", type=ACCOUNT)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--by", help="Who removes it.  [default: your login name and this host]")
def remove(*, name: str, yes: bool, by: str | None) -> None:
    """Remove the account NAME from Redis. Workers stop polling it; its events and its state are kept."""
    settings = prepare(quiet=True)

    async def main() -> None:
        async with client_of(settings) as client:
            store, keys = AccountStore(client, settings.redis.keys), settings.redis.keys.of(name)
            await _existing(store, settings, name)
            ask_back(
                f"Stop polling {name}, and forget its login? Its events and its state are kept.", yes=yes
            )
            async with recorded(client, keys, by=by or ""):
                await store.remove(name, by or login_name())
        say(f"{name} was removed. Workers stop polling it within seconds; its events and its state are kept.")
        say("To delete them as well, once no consumer needs them, with the Redis user of the worker:")
        say(f"  redis-cli --scan --pattern '{keys.base}*' | xargs -r -n 500 redis-cli unlink")
        say(f"  redis-cli srem {settings.redis.keys.accounts} {name}")
        say(f"  redis-cli hdel {settings.redis.keys.account_rows} '*removed:{name}'")

    run_async(main)


@command.command(epilog="\b\nExamples:\n  ordersync accounts disable acme --reason 'contract ended'")
@click.argument("name", type=ACCOUNT)
@click.option("--reason", required=True, help="Reason, shown by accounts list.")
@click.option("--by", help="Who disables it.  [default: your login name and this host]")
def disable(*, name: str, reason: str, by: str | None) -> None:
    """Stop polling the account NAME until `ordersync accounts enable`. Its login, events and state are kept.

    Unlike a pause, a disabled account costs the workers nothing.
    """
    if not reason.strip():
        raise SettingsError("--reason is empty. State why the account is disabled.")
    _set_disabled(name, by, reason.strip())


@command.command(epilog="\b\nExamples:\n  ordersync accounts enable acme")
@click.argument("name", type=ACCOUNT)
@click.option("--by", help="Who enables it.  [default: your login name and this host]")
def enable(*, name: str, by: str | None) -> None:
    """Poll the account NAME again. Nothing is missed: the next polls read what has changed meanwhile."""
    _set_disabled(name, by, "")


def _set_disabled(name: str, by: str | None, reason: str) -> None:
    settings = prepare(quiet=True)

    async def main() -> None:
        async with client_of(settings) as client:
            store, clock = AccountStore(client, settings.redis.keys), RedisClock(client)
            await clock.sync()
            stored = await _existing(store, settings, name)
            if stored.row is None:
                raise SettingsError(f"{name}: {stored.problem}")
            if bool(reason) == bool(stored.row.disabled):
                say(f"{name} is {'disabled' if reason else 'enabled'} already.")
                return
            mark = Disabled(by or login_name(), reason, round(clock.now(), 3)) if reason else None
            async with recorded(client, settings.redis.keys.of(name), by=by or ""):
                await store.disable(name, stored.row, mark)
        say(f"{name} was {'disabled' if reason else 'enabled'}. The workers take it up within seconds.")

    run_async(main)


async def account_rows(client: Redis, settings: Settings) -> list[dict[str, Any]]:
    """Return what is known of each account, by name: of the settings, and in Redis."""
    store = AccountStore(client, settings.redis.keys)
    problems = await store.problems()
    own = settings.accounts() if settings.has_accounts else ()
    source = "file" if settings.accounts_file is not None else "settings"
    rows = {
        account.name: _row(account.name, source, "served", account.api.base_url, list(account.intervals))
        for account in own
    }
    for stored in await store.all():
        if stored.name in rows:
            rows[stored.name]["problem"] = (
                "an account of this name is kept in Redis as well, and is not served"
            )
            continue
        rows[stored.name] = _stored_row(stored, settings, problems.get(stored.name, ""))
    return [rows[name] for name in sorted(rows)]


def _stored_row(stored: StoredRow, settings: Settings, told: str) -> dict[str, Any]:
    """Return what is known of an account in Redis. `told`: why workers do not serve it."""
    if stored.row is None:
        return _row(stored.name, "redis", "invalid", None, [], problem=stored.problem)
    row = stored.row
    gateway, resources, problem = str(row.api.get("base_url", settings.api.base_url)), list[str](), told
    if settings.secret_key is not None:
        try:
            resources = list(opened(stored.name, row, settings).intervals)
        except RowError as error:
            problem = problem or str(error)
    made = _row(stored.name, "redis", "served", gateway, resources, added_at=rfc3339(row.added_at))
    if row.disabled is not None:
        made |= {"state": "disabled", "disabled": msgspec.to_builtins(row.disabled)}
    elif problem:
        made |= {"state": "invalid", "problem": problem}
    elif settings.secret_key is None:
        made |= {
            "state": "unknown",
            "problem": "ORDERSYNC_SECRET_KEY is not set here, so it cannot be checked",
        }
    return made


def _row(
    name: str,
    source: str,
    state: str,
    base_url: str | None,
    resources: list[str],
    *,
    problem: str = "",
    added_at: str | None = None,
) -> dict[str, Any]:
    return {
        "account": name,
        "source": source,
        "state": state,
        "base_url": base_url,
        "resources": resources,
        "added_at": added_at,
        "disabled": None,
        "problem": problem,
    }


def _shown(row: Mapping[str, Any]) -> tuple[str, ...]:
    state = row["state"]
    if disabled := row["disabled"]:
        state = f"disabled by {disabled['by']}: {disabled['reason']}"
    elif row["problem"]:
        state = f"{state}: {row['problem']}" if state != "served" else f"served; {row['problem']}"
    resources = ", ".join(row["resources"]) or "-"
    return row["account"], row["source"], state, row["base_url"] or "-", resources, row["added_at"] or "-"


async def _existing(store: AccountStore, settings: Settings, name: str) -> StoredRow:
    """Return the row of an account; raise `SettingsError` if there is none."""
    stored = await store.get(name)
    if stored is None:
        _refuse_own(settings, name)
        known = [each.name for each in await store.all()]
        raise SettingsError(
            f"There is no account {name!r} in Redis.{nearest(name, known)} To list them: ordersync accounts list"
        )
    return stored


def _refuse_own(settings: Settings, name: str) -> None:
    """Raise `SettingsError` if the settings have an account of this name."""
    if settings.has_accounts and name in {account.name for account in settings.accounts()}:
        where = (
            "the accounts file" if settings.accounts_file is not None else "the settings (ORDERSYNC_API__...)"
        )
        raise SettingsError(
            f"Account {name} comes from {where}. Change it there; to stop polling it for a while: ordersync pause "
            f"--account {name} --reason ..."
        )


def _given(values: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of `api` and of `poll` that --set names."""
    parts: dict[str, dict[str, Any]] = {"api": {}, "poll": {}}
    for text in values:
        path, found, value = text.partition("=")
        section, _, setting = path.strip().partition(".")
        if not found or section not in parts or not setting:
            raise SettingsError(f"--set {text!r}: write api.NAME=VALUE or poll.NAME=VALUE.")
        if section == "api" and setting in {"client_secret", "password", "headers", "proxy"}:
            raise SettingsError(
                f"--set api.{setting}: a secret in a command can be seen by others. Use a file: --client-secret-file, "
                "--password-file or --header-file."
            )
        parts[section][setting] = _value(value)
    return parts["api"], parts["poll"]


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        return text


def _secret(file: str | None, what: str, option: str) -> str:
    """Return a secret from a file, from standard input, or from who sits at the terminal."""
    if file == "-":
        text = sys.stdin.read()
    elif file is not None:
        refuse_foreign(Path(file), option)
        try:
            text = Path(file).read_text(encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"{option}: {file} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{option}: {file} is not valid UTF-8. Save it in that encoding.") from None
    elif sys.stdin.isatty():
        text = ask_secret(f"The {what}")
    else:
        raise SettingsError(f"The {what} is missing: add {option} FILE, or {option} - for standard input.")
    if not text.strip():
        raise SettingsError(f"The {what} is empty.")
    return text.strip()


def _header(text: str) -> tuple[str, str]:
    name, found, file = text.partition("=")
    if not found or not name or not file:
        raise SettingsError(f"--header-file {text!r}: write NAME=FILE.")
    return name, _secret(file, f"header {name}", "--header-file")
