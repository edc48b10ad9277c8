"""A gateway that logs everybody in, and answers any other request with the secrets that it knows, in many forms."""

from __future__ import annotations

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self
from urllib.parse import quote

ACCESS, REFRESH = 'opaque/acc3ss+t0ken==x"y', "opaque-r3fresh-t0ken"
CLIENT_SECRET, HEADER = 's3cret/of+the&client"é', "h3ader-value-of-api"
MAIL, PHONE = "jane.doe@example.com", "+49 30 901820-77"
SECRETS = (ACCESS, REFRESH, CLIENT_SECRET, HEADER, MAIL, PHONE)
_IN_URL = "https://x.example/?bearer=b3arer-in-url&access_token=unkn0wn-token&sig=s1gnature"


def forms(secret: str) -> set[str]:
    """Return a secret as it may stand in words, each form long enough to be told from a word."""
    raw = secret.encode()
    coded = {base64.b64encode(b"\0" * n + raw).decode().rstrip("=")[4:-2] for n in range(3)}
    escaped = json.dumps(secret)[1:-1]
    return {secret, quote(secret, safe=""), quote(secret, safe="").lower(), escaped, *coded}


def written(secret: str) -> set[str]:
    """Return a secret as a gateway writes it: the forms, with base64 as a whole."""
    raw = secret.encode()
    plain = {form for form in forms(secret) if not form.isalnum() or form == secret}
    return plain | {base64.b64encode(b"id:"[:n] + raw).decode() for n in range(3)}


def leaks(text: str) -> set[str]:
    """Return the secrets, and long parts of them, in what was kept or shown."""
    looked = {form for secret in SECRETS[:4] for form in forms(secret)} | {MAIL, quote(MAIL), PHONE}
    found = {form for form in looked if form in text or json.dumps(form)[1:-1] in text}
    halves = {
        part
        for secret in SECRETS
        for part in (secret[:12], secret[-12:])
        if len(secret) > 14 and part in text
    }
    return found | halves | {name for name in ("b3arer-in-url", "unkn0wn-token", "s1gnature") if name in text}


def words(padding: int) -> str:
    """Return a message with every secret in every form, of which a cut at any place would hit one."""
    said = [form for secret in SECRETS[:4] for form in sorted(written(secret))]
    said += [
        MAIL,
        quote(MAIL),
        f"phone: {PHONE}",
        PHONE,
        f"Bearer {ACCESS}",
        _IN_URL,
        json.dumps({"email": MAIL}),
    ]
    said += [base64.b64encode(f"client:{CLIENT_SECRET}".encode()).decode()]
    return " ".join(["x" * padding, *said])


class EchoingGateway:
    """Answers in one of the ways of `WAYS`. A context manager; `url` is its address."""

    WAYS = ("message", "properties", "text", "html", "keys", "good", "request id", "error object", "broken")

    def __init__(self, way: str, padding: int = 0) -> None:
        self._way, self._padding = way, padding
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # a head and its body in one packet: nobody waits for an acknowledgement

            def _serve(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                status, headers, body = outer._answer(self.path)
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = _serve  # noqa: N815 - the names that the base class looks for

            def log_message(self, *_args: Any) -> None:
                """Write nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        as_json = {"content-type": "application/json"}
        if "token" in path.lower() or "login" in path.lower():
            session = {
                "accessToken": ACCESS,
                "refreshToken": REFRESH,
                "expiresIn": 3600,
                "tokenType": "Bearer",
            }
            return 200, as_json, json.dumps(session).encode()
        said = words(self._padding)
        named = {form: 1 for secret in SECRETS[:4] for form in sorted(written(secret))} | {MAIL: 1, PHONE: 1}
        errors = [{"errorMessage": said, "propertyName": said, "attemptedValue": said}]
        nested = {"error": {"code": said, "message": said}, "traceId": said}
        answers: dict[str, tuple[int, dict[str, str], str]] = {
            "message": (400, as_json, json.dumps({"message": said})),
            "properties": (400, as_json, json.dumps({"errors": errors})),
            "text": (500, {"content-type": "text/plain"}, said),
            "html": (502, {"content-type": "text/html"}, f"<p>{said}"),
            "keys": (200, as_json, json.dumps(named)),
            "good": (200, as_json, json.dumps({"success": False, "message": said})),
            "request id": (400, {"x-request-id": quote(said[:900], safe=" "), **as_json}, "{}"),
            "error object": (403, as_json, json.dumps(nested)),
            "broken": (200, as_json, '{"orders": [' + said),
        }
        status, headers, body = answers[self._way]
        return status, headers, body.encode()
