"""Schemas of the user service. Only its three logins are published, so only the names of most schemas are known."""

from __future__ import annotations

from worker.ordermesh.schemas.base import Schema, fields, schema, undocumented

_CAMEL = (
    "inferred: every JSON sample is camelCase; the older guide (vendor:GS-alpha) has client_id, client_secret"
)
_LOGIN = "inferred: the answer of the login (seed)"

# fmt: off
USER: tuple[Schema, ...] = (
    schema("ClientTokenResponseDTO", "user",
           fields(_LOGIN, "accessToken: string!", "tokenType: string", "expiresIn: integer"),
           note="about 24 hours, without a refresh token (vendor:GS-dev); older guide: expires_in, refresh_token"),
    schema("CreateInvitationDtoBulkModel", "user",
           fields("inferred: envelope of the bulk models (vendor:SC-bulk)", "bulk: [CreateInvitationDto]!")),
    schema("CreateVendorInvitationDtoBulkModel", "user",
           fields("inferred: envelope of the bulk models (vendor:SC-bulk)", "bulk: [CreateVendorInvitationDto]!")),
    schema("GetServiceClientTokenDto", "user",
           fields(_CAMEL, "clientId: string!", "clientSecret: string!")),
    schema("LoginUserDto", "user", fields("seed", "username: string!", "password: string!")),
    schema("LoginUserWithAuthorizationCode", "user", note="no published operation uses it"),
    schema("LoginUserWithRefreshToken", "user", fields(_LOGIN, "refreshToken: string!")),
    schema("PermissionDTO", "user",
           fields("inferred: permissions in the answer of the login (seed)", "name: string", "description: string")),
    schema("PermissionSet", "user",
           fields("inferred: permissionSet in the answer of the login (seed)", "resourceId: string",
                  "resourceName: string", "resourceDisplayName: string", "availablePermissions: [PermissionDTO]",
                  "associatedPermissions: [PermissionDTO]")),
    schema("RoleWithPermissionDTO", "user",
           fields("inferred: roles in the answer of the login (seed)", "id: string", "name: string",
                  "usersCount: integer", "permissionSet: [PermissionSet]")),
    schema("StringBulkModel", "user",
           fields("inferred: envelope of the bulk models (vendor:SC-bulk)", "bulk: [string]!")),
    schema("TokenResponseDTO", "user",
           fields("seed", "accessToken: string!", "scope: string", "tokenType: string", "refreshToken: string",
                  "expiresIn: integer", "identityToken: string", "id: string", "shortId: string",
                  "username: string", "email: string", "firstName: string", "lastName: string", "status: string",
                  "dateCreated: string", "attributes: object", "roles: [RoleWithPermissionDTO]"),
           note="attributes contains the lists merchantIds, vendorIds and facilityIds"),
    schema("UnauthorizedErrorResponse", "user", note="shows that 401 exists"),
    *undocumented("user", """
        AssignUserRoleDto CreateInvitationDto CreateInvitationResponse CreateRoleDTO CreateServiceClientDto
        CreateServiceClientResponseDTO CreateUserDto CreateVendorInvitationDto CreateVendorInvitationResponse
        DeleteInvitationResponse DeleteVendorInvitationResponse ForgotPasswordDTO FutureAssociationsDTO
        GetInvitationResponse GetInvitationsByMerchantIdResponse GetInvitationsByMerchantIdResponseDto
        GetVendorInvitationResponse GetVendorInvitationsByVendorIdResponse
        GetVendorInvitationsByVendorIdResponseDto InvitationDeliveryResponse OnboardUserDto PasswordPolicyDTO
        PatchUserDTO PermissionSetsRequestDTO PermissionSetsResponseDTO ResendInvitationResponse
        ResendVendorInvitationResponse ResetPasswordDTO ResourceDTO RoleDTO RolePermissionDTO
        SearchRolesResponseDTO SearchUsersResponseDTO ServiceClientResponseDTO UnassignUserRoleDTO
        UpdateAssociationTypeDTO UpdateAttributesDto UpdateRoleDTO UpdateRolePermissionsDTO UserResponseDTO
        ValidateEmailsResponse ValidationResponseDTO"""),
    *(schema(name, "user", type="any", note="an enumeration by its name; its values are not documented")
      for name in ("InvitationDeliveryMethodEnum", "InvitationStatusEnum", "InvitationsByMerchantIdSortByEnum",
                   "SearchRolesEnum", "SearchUsersEnum")),
)
# fmt: on
