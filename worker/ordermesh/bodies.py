"""Typed bodies of the writing operations whose fields are known, under the names of the vendor's schemas.

Fields are sent in camelCase, except where the vendor's samples differ (`originalSKU`, `orderItemIDs`). A field that is
not set is omitted; None is sent as null. The vendor does not document which fields are required: an argument is
mandatory here only if the request would be meaningless without it. The stored pages of the vendor are truncated, so
more fields may exist; `as_fields(order) | {"another": 1}` adds one.

Sources have the names of the API facts: `O-create` and so on are pages of the vendor. An inferred body names the body
that it is inferred from.
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
        # A body may contain a customer's name and address, which must not appear in a log or a traceback.
        return f"{type(self).__name__}(...)"


Body: TypeAlias = Mapping[str, Any] | Model
"""The argument of every writing method: fields with the names that are sent, or a typed body."""


def as_fields(body: Body) -> dict[str, Any]:
    """Return the fields of a body under the names that are sent."""
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(body))
    return decoded


# Order service


class CoordinatesModel(Model):
    """Geographic coordinates. Source: SC-bulk (`location` of AddressModel)."""

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
    """A postal address with its coordinates. Source: SC-bulk."""

    location: CoordinatesModel | UnsetType | None = UNSET


class APIClientInfoModel(Model):
    """The program that creates the order. Source: O-create."""

    source: Text = UNSET
    details: Text = UNSET
    version: Text = UNSET
    ip: Text = UNSET


class BillingInfoModel(Model):
    """The name and address of the payer. Source: O-create."""

    full_name: Text = UNSET
    address: AddressModel | UnsetType | None = UNSET


class CreateOrderCustomerTransactionModel(Model):
    """One payment. Source: O-create. `transaction_date` is ISO 8601 with a time zone."""

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
    """An image to print. Source: O-create."""

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

    The other fields are not in the stored excerpt; they are inferred from the item as it is read (SC-item).
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
    """A new order. Source: O-create, SC-bulk. Totals are numbers in the currency of `currency_code`.

    Always set a globally unique `safe_id`: it is the only way to find out whether an order exists after the response
    was lost. `currency_code`: USD (default), CAD, EUR; `language_code`: en, es, pt.
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
    """The refund of one item. Source: SC-refund. `amount` is in the currency of the order."""

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
    """The record of a note: its id and its kind, such as `order`. Not documented; inferred from the name."""

    id: str
    type: str


class CreateNoteModel(Model):
    """A new note. Not documented; inferred as the minimum that a note needs."""

    resource: ResourceReferenceModel
    text: str


class UpdateNotePayload(Model):
    """The new text of a note. Not documented; inferred from CreateNoteModel."""

    text: str


# Catalog service


class Price(Model):
    """An amount of money. Source: MC-put."""

    amount: Number = UNSET
    currency: Text = UNSET


class MultiPrice(Model):
    """A price, and the same price in other currencies. Source: MC-put."""

    amount: Number = UNSET
    currency: Text = UNSET
    currencies: list[Price] | UnsetType = UNSET


class PrintImageModel(Model):
    """The print file of a decoration. Source: MC-put. The server probably sets all but `source_print_file_url`."""

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
    """A variant in a merchant's catalog. Source: MC-put. `id` is null in the sample, as for a new variant."""

    sku: str
    id: Text = UNSET
    merchant_sku: Text = UNSET
    merchant_price: MultiPrice | UnsetType | None = UNSET
    skip_image_manipulation: Flag = UNSET
    product_id: Text = UNSET
    decorations: list[DecorationModel] | UnsetType = UNSET
    attributes: list[MerchantVariantAttributeDto] | UnsetType | None = UNSET


class CreateMerchantCatalogDto(Model):
    """A new merchant catalog. Not documented; inferred as the body of the update without the id (MC-put)."""

    name: str
    description: Text = UNSET
    is_enabled: Flag = UNSET
    assigned_to_sub_account_ids: Texts = UNSET
    variants: list[MerchantVariantDto] | UnsetType = UNSET


class UpdateMerchantCatalogDto(Model):
    """The new state of a merchant catalog; variants that are not in it are removed. Source: MC-put."""

    id: str
    name: str
    description: Text = UNSET
    is_enabled: Flag = UNSET
    assigned_to_sub_account_ids: Texts = UNSET
    variants: list[MerchantVariantDto] | UnsetType = UNSET


class PatchMerchantCatalogDto(Model):
    """The changes to a merchant catalog. Source: MC-patch."""

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
    """A package. Not documented; inferred from the package as it is read (S-get).

    Dates have the format of the shipment service: ISO 8601 without a time zone, in UTC. The contents of
    `package_order_items` are not documented; it is empty in every sample.
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
    """The changes to a package. Inferred from CreatePackageDTO."""


class RerouteOrderItem(Model):
    """The quantity of an item that is moved to the other facility. Source: SC-reroute."""

    id: str
    quantity: Whole = UNSET


class Reroute(Model):
    """Another facility for a shipment, or for some of its items. Source: SC-reroute."""

    shipment_id: str
    facility_id: str
    reason: Text = UNSET
    order_items: list[RerouteOrderItem] | UnsetType = UNSET
