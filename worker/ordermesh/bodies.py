"""Typed bodies of the writing operations whose fields are known, under the names of the vendor's schemas.

On the wire they are camelCase, with the exceptions that the vendor's samples show (`originalSKU`, `orderItemIDs`).
A field that is not set is left out; None is sent as null. Which fields the server insists on is documented
nowhere: an argument is mandatory here only where the request would say nothing without it. The stored pages are
cut off, so there may be more fields than these: `as_fields(order) | {"another": 1}` sends them along.

Sources are named as in the API facts: `O-create` and so on are pages of the vendor; what is inferred says from what.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

Text: TypeAlias = str | UnsetType | None
Number: TypeAlias = float | UnsetType | None
Whole: TypeAlias = int | UnsetType | None
Flag: TypeAlias = bool | UnsetType | None
Texts: TypeAlias = list[str] | UnsetType | None
Map: TypeAlias = dict[str, Any] | UnsetType | None


class Model(msgspec.Struct, rename="camel"):
    """A body, or a part of one."""

    def __repr__(self) -> str:
        # It holds a customer's name and address, which must not get into a log or a traceback.
        return f"{type(self).__name__}(...)"


Body: TypeAlias = Mapping[str, Any] | Model
"""What every writing method takes: fields as they stand on the wire, or a typed body."""


def as_fields(body: Body) -> dict[str, Any]:
    """The fields of a body as they go over the wire."""
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(body))
    return decoded


# Order service


class CoordinatesModel(Model):
    """A place. Source: SC-bulk (`location` of AddressModel)."""

    longitude: Number = UNSET
    latitude: Number = UNSET


class BaseAddressModel(Model):
    """A postal address. Source: O-create. `country_code` is ISO 3166 alpha-2."""

    first_name: Text = UNSET
    last_name: Text = UNSET
    line1: Text = UNSET
    line2: Text = UNSET
    line3: Text = UNSET
    city: Text = UNSET
    state: Text = UNSET
    zip: Text = UNSET
    country_code: Text = UNSET
    phone: Text = UNSET
    email: Text = UNSET


class AddressModel(BaseAddressModel):
    """A postal address and where it is. Source: SC-bulk."""

    location: CoordinatesModel | UnsetType | None = UNSET


class APIClientInfoModel(Model):
    """The program that orders. Source: O-create."""

    source: Text = UNSET
    details: Text = UNSET
    version: Text = UNSET
    ip: Text = UNSET


class BillingInfoModel(Model):
    """Who pays. Source: O-create."""

    full_name: Text = UNSET
    address: AddressModel | UnsetType | None = UNSET


class CreateOrderCustomerTransactionModel(Model):
    """One payment that was made. Source: O-create. `transaction_date` is ISO 8601 with a zone."""

    total: Number = UNSET
    currency_code: Text = UNSET
    transaction_date: Text = UNSET
    transaction_id: Text = UNSET
    authorization_code: Text = UNSET


class CreateOrderCustomerPaymentMethodModel(Model):
    """How the customer paid. Source: O-create."""

    method: Text = UNSET
    sub_method: Text = UNSET
    card_first4: Text = UNSET
    card_last4: Text = UNSET
    billing_info: BillingInfoModel | UnsetType | None = UNSET
    customer_transactions: list[CreateOrderCustomerTransactionModel] | UnsetType = UNSET


class CreateOrderItemImageModel(Model):
    """What is printed. Source: O-create."""

    url: Text = UNSET
    thumbnail_url: Text = UNSET
    area: Text = UNSET
    print_method: Text = UNSET


class OptionModel(Model):
    """A name and its value. Source: SC-item (`options`)."""

    name: Text = UNSET
    value: Text = UNSET


class AttributeModel(Model):
    """A name and its value. Source: SC-item (`attributes`)."""

    name: Text = UNSET
    value: Text = UNSET


class CreateOrderItemModel(Model):
    """One item of a new order. Source of `sku`, `quantity` and `images`: O-create.

    The others are beyond the stored excerpt: inferred from the item as it is read (SC-item).
    """

    sku: str
    quantity: int
    images: list[CreateOrderItemImageModel] | UnsetType = UNSET
    external_id: Text = UNSET
    original_sku: Text = msgspec.field(default=UNSET, name="originalSKU")
    options: list[OptionModel] | UnsetType = UNSET
    attributes: list[AttributeModel] | UnsetType = UNSET
    client_attributes: Map = UNSET
    meta: Map = UNSET
    is_sample: Flag = UNSET
    skip_img_manip: Flag = UNSET
    skip_image_validation: Flag = UNSET
    skip_sku_validation: Flag = UNSET


class CreateOrderModel(Model):
    """A new order. Source: O-create, SC-bulk. Totals are bare numbers in the currency of `currency_code`.

    Always give a `safe_id`, globally unique: by it alone can be told whether an order whose answer was lost
    exists. `currency_code`: USD (default), CAD, EUR; `language_code`: en, es, pt.
    """

    items: list[CreateOrderItemModel]
    shipping_address: BaseAddressModel
    safe_id: Text = UNSET
    external_id: Text = UNSET
    merchant_id: Text = UNSET
    billing_address: BaseAddressModel | UnsetType | None = UNSET
    return_address: BaseAddressModel | UnsetType | None = UNSET
    language_code: Text = UNSET
    currency_code: Text = UNSET
    is_test: Flag = UNSET
    is_sample: Flag = UNSET
    client: APIClientInfoModel | UnsetType | None = UNSET
    meta: dict[str, str] | UnsetType | None = UNSET
    customer_shipping_method: Text = UNSET
    customer_total: Number = UNSET
    customer_item_total: Number = UNSET
    customer_total_shipping: Number = UNSET
    customer_total_taxes: Number = UNSET
    customer_total_discount_and_promotions: Number = UNSET
    customer_payment_methods: list[CreateOrderCustomerPaymentMethodModel] | UnsetType = UNSET


class AddRefundItemModel(Model):
    """What is refunded of one item. Source: SC-refund. `amount` in the currency of the order."""

    item_id: str
    amount: float
    is_shipping_refund: Flag = UNSET
    reason: Text = UNSET


class AddRefundModel(Model):
    """A request for refunds. Source: SC-refund."""

    order_id: str
    refunds: list[AddRefundItemModel]


# Note service


class ResourceReferenceModel(Model):
    """What a note is on: its id and its kind, such as `order`. No field is documented: inferred from the name."""

    id: str
    type: str


class CreateNoteModel(Model):
    """A new note. No field is documented: inferred, the least that a note needs."""

    resource: ResourceReferenceModel
    text: str


class UpdateNotePayload(Model):
    """The new words of a note. No field is documented: inferred as those of CreateNoteModel."""

    text: str


# Catalog service


class Price(Model):
    """An amount of money. Source: MC-put."""

    amount: Number = UNSET
    currency: Text = UNSET


class MultiPrice(Model):
    """A price, and the same in other currencies. Source: MC-put."""

    amount: Number = UNSET
    currency: Text = UNSET
    currencies: list[Price] | UnsetType = UNSET


class PrintImageModel(Model):
    """The print file of a decoration. Source: MC-put. All but `source_print_file_url` is probably the server's."""

    source_print_file_url: Text = UNSET
    image_upload_status: str | int | UnsetType | None = UNSET
    image_upload_status_desc: Text = UNSET
    our_print_file_id: Text = UNSET
    our_print_file_url: Text = UNSET


class DecorationModel(Model):
    """A printed area. Source: MC-put. `method`: DirectToGarment, DirectToFilm, Embroidery and others."""

    area: Text = UNSET
    width: Number = UNSET
    height: Number = UNSET
    dpi: Number = UNSET
    method: Text = UNSET
    price: MultiPrice | UnsetType | None = UNSET
    print_image: PrintImageModel | UnsetType | None = UNSET


class MerchantVariantAttributeDto(Model):
    """A name and its value. Source: MC-put."""

    name: Text = UNSET
    value: Text = UNSET


class MerchantVariantDto(Model):
    """A variant in a merchant's catalog. Source: MC-put. `id` is null in the sample, as for a new one."""

    sku: str
    id: Text = UNSET
    merchant_sku: Text = UNSET
    merchant_price: MultiPrice | UnsetType | None = UNSET
    skip_image_manipulation: Flag = UNSET
    product_id: Text = UNSET
    decorations: list[DecorationModel] | UnsetType = UNSET
    attributes: list[MerchantVariantAttributeDto] | UnsetType | None = UNSET


class CreateMerchantCatalogDto(Model):
    """A new merchant catalog. No page shows the body: inferred, that of the update without the id (MC-put)."""

    name: str
    description: Text = UNSET
    is_enabled: Flag = UNSET
    assigned_to_sub_account_ids: Texts = UNSET
    variants: list[MerchantVariantDto] | UnsetType = UNSET


class UpdateMerchantCatalogDto(Model):
    """A merchant catalog as it shall be, variants included: what is not in it is gone. Source: MC-put."""

    id: str
    name: str
    description: Text = UNSET
    is_enabled: Flag = UNSET
    assigned_to_sub_account_ids: Texts = UNSET
    variants: list[MerchantVariantDto] | UnsetType = UNSET


class PatchMerchantCatalogDto(Model):
    """What shall change in a merchant catalog. Source: MC-patch."""

    id: str
    name: Text = UNSET
    description: Text = UNSET
    is_enabled: Flag = UNSET
    assigned_to_sub_account_ids: Texts = UNSET
    variants_to_add: list[MerchantVariantDto] | UnsetType = UNSET
    variants_skus_to_remove: Texts = UNSET
    variants_to_update: list[MerchantVariantDto] | UnsetType = UNSET


# Shipment service


class CreatePackageDTO(Model):
    """A package. No page shows the body: inferred from the package as it is read (S-get).

    Dates as the shipment service writes them: ISO 8601 without a zone, taken as UTC. What stands in
    `package_order_items` is not documented: it is empty in every sample.
    """

    carrier_name: Text = UNSET
    carrier_method_name: Text = UNSET
    shipped_date: Text = UNSET
    fulfilled_date: Text = UNSET
    carrier_tracking_number: Text = UNSET
    carrier_link: Text = UNSET
    carrier_account: Flag = UNSET
    order_item_ids: Texts = msgspec.field(default=UNSET, name="orderItemIDs")
    package_order_items: list[dict[str, Any]] | UnsetType = UNSET


class UpdatePackageDTO(CreatePackageDTO):
    """What shall change in a package. Inferred as CreatePackageDTO."""


class RerouteOrderItem(Model):
    """How many of an item go to the other facility. Source: SC-reroute."""

    id: str
    quantity: Whole = UNSET


class Reroute(Model):
    """Another facility for a shipment, or for a part of its items. Source: SC-reroute."""

    shipment_id: str
    facility_id: str
    reason: Text = UNSET
    order_items: list[RerouteOrderItem] | UnsetType = UNSET
