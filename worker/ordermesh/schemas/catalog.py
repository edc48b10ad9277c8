"""Schemas of the catalog service.

Merchant catalogs and their variants are documented by samples (vendor:MC-put, MC-patch, MV-add, PC-taylor).
Categories, products and the variants of the global catalog are not: their fields are inferred from the names of
the schemas and from the merchant's variant. The sandbox serves these fields.
"""

from __future__ import annotations

from worker.ordermesh.schemas.base import Schema, fields, schema

_NAMED = "inferred: by the names of the schemas"
_NEEDED = "inferred: the minimum that it needs; the name of the field is a guess"
_VARIANT = "inferred: the merchant's variant has it (vendor:MC-put)"
_STAMPS = "inferred: as in the order service (vendor:O-item)"
_PLURAL = "inferred: plural of the resource, as in the one list that is shown (vendor:PC-taylor)"
_CATALOG = "inferred: the body of the update has it (vendor:MC-put)"
_FILTER = "inferred: filters named after the fields that they compare"
_UNPUBLISHED = "no published operation uses it"

_MERCHANT_VARIANT = (
    *fields("vendor:MC-put", "id: string", "sku: string!", "merchantSku: string", "merchantPrice: MultiPrice",
            "skipImageManipulation: boolean", "productId: string", "decorations: [DecorationModel]",
            "attributes: [MerchantVariantAttributeDto]"),
)  # fmt: skip
_BODY = ("description: string", "isEnabled: boolean", "assignedToSubAccountIds: [string]")
_VARIANTS = "variants: [MerchantVariantDto]"
_WHEN = fields(_STAMPS, "createdAt: string", "updatedAt: string")
_CATEGORY_BODY = (*fields(_NEEDED, "name: string!"), *fields(_NEEDED, "description: string"))
_PRODUCT_NAME = fields(_NEEDED, "name: string!", "description: string")
_PRODUCT_REST = fields(
    _NAMED, "status: ProductStatus", "attributes: [ProductAttributeModel]", "extra: ProductExtraModel"
)
_PRODUCT_BODY = (*_PRODUCT_NAME, *_PRODUCT_REST, *fields(_NAMED, "categoryIds: [string]"))
_VARIANT_BODY = (
    *fields(_VARIANT, "sku: string!"),
    *fields(_NAMED, "price: MultiPriceModel", "attributes: [VariantAttributeModel]"),
    *fields(_VARIANT, "decorations: [DecorationModel]"),
)
_PRODUCT = (
    *fields(_NEEDED, "id: string!"),
    *_PRODUCT_NAME,
    *_PRODUCT_REST,
    *fields(_NAMED, "categories: [CategoryModel]", "variants: [VariantModel]"),
    *_WHEN,
)
_GLOBAL_VARIANT = (
    *fields(_NEEDED, "id: string!"),
    *fields(_VARIANT, "productId: string!"),
    *_VARIANT_BODY,
    *_WHEN,
)
_MERCHANT_CATALOG = (*fields(_CATALOG, "id: string!", "name: string", *_BODY, _VARIANTS), *_WHEN)
_CATEGORY = (*fields(_NEEDED, "id: string!"), *_CATEGORY_BODY, *_WHEN)
_SEARCH = fields(_FILTER, "sku: string", "merchantSku: string", "productId: string")

# fmt: off
CATALOG: tuple[Schema, ...] = (
    schema("CategoryModel", "catalog", _CATEGORY),
    schema("CreateCategoryModel", "catalog", _CATEGORY_BODY),
    schema("CreateCategoryResponse", "catalog", _CATEGORY),
    schema("CreateMerchantCatalogDto", "catalog", fields(_CATALOG, "name: string!", *_BODY, _VARIANTS)),
    schema("CreateMerchantCatalogResponse", "catalog"),
    schema("CreateProductModel", "catalog", _PRODUCT_BODY),
    schema("CreateProductModelBulkModel", "catalog",
           fields("inferred: envelope of the bulk models (vendor:SC-bulk)", "bulk: [CreateProductModel]!")),
    schema("CreateProductResponse", "catalog"),
    schema("CreateVariantModel", "catalog", fields(_VARIANT, "productId: string!"), _VARIANT_BODY),
    schema("CreateVariantResult", "catalog"),
    schema("DecorationModel", "catalog",
           fields("vendor:MC-put", "area: string", "width: number", "height: number", "dpi: number",
                  "method: PrintMethod", "price: MultiPrice", "printImage: PrintImageModel")),
    schema("GetCategoriesResponse", "catalog", fields(_PLURAL, "categories: [CategoryModel]!")),
    schema("GetEffectiveProductsResponse", "catalog", note=_UNPUBLISHED),
    schema("GetEffectiveVariantListResponse", "catalog",
           fields("vendor:PC-taylor", "variants: [MerchantVariantDto]!"),
           note="without page and pageSize, the response contains the whole catalog"),
    schema("GetEffectiveVariantsByProductResponse", "catalog", note=_UNPUBLISHED),
    schema("GetProductVariantsResponse", "catalog", fields(_PLURAL, "variants: [VariantModel]!")),
    schema("GetProductsResponse", "catalog", fields(_PLURAL, "products: [ProductModel]!")),
    schema("ListMerchantCatalogsResponse", "catalog",
           fields(_PLURAL, "merchantCatalogs: [MerchantCatalogDto]!")),
    schema("MerchantCatalogDto", "catalog", _MERCHANT_CATALOG),
    schema("MerchantVariantAttributeDto", "catalog", fields("vendor:MC-put", "name: string", "value: string"),
           note="names seen: Color, Size, FileType, and TemplateURL with a space at its end (vendor:PC-taylor)"),
    schema("MerchantVariantDto", "catalog", _MERCHANT_VARIANT, note="a new variant is sent with a null id"),
    schema("MultiPrice", "catalog",
           fields("vendor:MC-put", "currencies: [Price]", "amount: number", "currency: string")),
    schema("MultiPriceModel", "catalog",
           fields("inferred: as MultiPrice (vendor:MC-put)", "currencies: [PriceModel]", "amount: number",
                  "currency: string")),
    schema("PatchMerchantCatalogDto", "catalog",
           fields("vendor:MC-patch", "id: string!", "name: string", *_BODY,
                  "variantsToAdd: [MerchantVariantDto]", "variantsSkusToRemove: [string]",
                  "variantsToUpdate: [MerchantVariantDto]")),
    schema("PatchMerchantCatalogResponse", "catalog"),
    schema("PrintImageModel", "catalog",
           fields("vendor:MC-put", "sourcePrintFileUrl: string", "imageUploadStatus: PrintImageUploadStatus",
                  "imageUploadStatusDesc: string", "ourPrintFileId: string", "ourPrintFileUrl: string")),
    schema("PrintImageUploadStatus", "catalog", type="any",
           note="an enumeration by its name; null in every sample"),
    schema("PrintMethod", "catalog", type="string",
           note="an enumeration; seen: DirectToGarment, DirectToFilm, Embroidery, DTG (older sample)"),
    schema("ProductAttributeModel", "catalog",
           fields(_NAMED, "name: string", "values: [ProductAttributeValueModel]")),
    schema("ProductAttributeValueModel", "catalog", fields(_NAMED, "value: string")),
    schema("ProductExtraModel", "catalog"),
    schema("ProductModel", "catalog", _PRODUCT),
    schema("ProductStatus", "catalog", type="string", note="an enumeration by its name; values not documented"),
    schema("SearchEffectiveVariantsDto", "catalog", _SEARCH),
    schema("SearchEffectiveVariantsResponse", "catalog", fields(_PLURAL, "variants: [MerchantVariantDto]!")),
    schema("SearchEffectiveVariantsSeparateDto", "catalog", note=_UNPUBLISHED),
    schema("SearchEffectiveVariantsSeparateResponse", "catalog", note=_UNPUBLISHED),
    schema("SearchMerchantCatalogVariantsResponse", "catalog",
           fields(_PLURAL, "variants: [MerchantVariantDto]!")),
    schema("SearchMerchantVariantDto", "catalog", _SEARCH),
    schema("SearchProductsResponse", "catalog", fields(_PLURAL, "products: [ProductModel]!")),
    schema("SearchVariantsModel", "catalog", fields(_PLURAL, "variants: [VariantModel]!")),
    schema("UpdateCategoryModel", "catalog", _CATEGORY_BODY),
    schema("UpdateMerchantCatalogDto", "catalog",
           fields("vendor:MC-put", "id: string!", "name: string!", *_BODY, _VARIANTS)),
    schema("UpdateMerchantCatalogResponse", "catalog"),
    schema("UpdateProductModel", "catalog", fields(_NEEDED, "id: string"), _PRODUCT_BODY,
           note="in a bulk update the id identifies the product"),
    schema("UpdateProductModelBulkModel", "catalog",
           fields("inferred: envelope of the bulk models (vendor:SC-bulk)", "bulk: [UpdateProductModel]!")),
    schema("UpdateProductResponse", "catalog"),
    schema("UpdateProductVariantModel", "catalog", _VARIANT_BODY),
    schema("UpdateProductVariantResponse", "catalog"),
    schema("VariantAttributeModel", "catalog", fields(_VARIANT, "name: string", "value: string")),
    schema("VariantModel", "catalog", _GLOBAL_VARIANT),
)
# fmt: on
