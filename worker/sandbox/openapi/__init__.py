"""The sandbox's OpenAPI document, and the validation of request bodies against it."""
