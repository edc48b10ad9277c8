"""The packing slip of a shipment: the contents of the parcel and its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.sandbox.documents.pdf import Line, render_pdf

if TYPE_CHECKING:
    from worker.sandbox.data.orders import Order
    from worker.sandbox.data.record import Record

_NAME = ("firstName", "lastName")
_PLACE = ("zip", "city", "state", "countryCode")


def packing_slip(shipment: Record, order: Order) -> bytes:
    """Return the slip as a PDF: references, the address, the items and the packages."""
    address = order.get("shippingAddress")
    address = address if isinstance(address, dict) else {}
    lines = [
        Line("Packing slip", size=20, bold=True),
        Line(""),
        Line(f"Order {order.get('shortId') or shipment['orderId']}", bold=True),
        Line(f"Reference {shipment['orderExternalId'] or shipment['safeId']}"),
        Line(f"Shipment {shipment['shortId']} of {shipment['createdDate']}"),
        Line(f"Sent by {shipment['merchantName']} from {shipment['facilityName']}"),
        Line(""),
        Line("Ship to", bold=True),
        *_address(address),
        Line(""),
        Line("Items", bold=True),
        *(
            Line(f"{line['quantity']} x {line['sku']} ({line['shortId']})", indent=12)
            for line in shipment["orderItems"]
        ),
    ]
    for package in shipment["packages"]:
        carrier = " ".join(filter(None, (package["carrierName"], package["carrierMethodName"])))
        tracking = package["carrierTrackingNumber"] or "without tracking number"
        lines += [
            Line(""),
            Line(f"Package {package['shortId']}: {carrier or 'carrier not known'}, {tracking}"),
        ]
    return render_pdf(f"Packing slip {shipment['shortId']}", lines)


def _address(address: Record) -> list[Line]:
    texts = [_joined(address, _NAME)]
    texts += [str(address[name]) for name in ("line1", "line2", "line3") if address.get(name)]
    texts.append(_joined(address, _PLACE))
    return [Line(text, indent=12) for text in texts if text]


def _joined(address: Record, names: tuple[str, ...]) -> str:
    return " ".join(str(address[name]) for name in names if address.get(name))
