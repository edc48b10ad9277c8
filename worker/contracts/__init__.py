"""The published contracts of this program: schemas, AsyncAPI document, log page."""
