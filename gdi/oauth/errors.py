"""What can go wrong at a provider: it says no, or no usable answer came. Neither message ever holds a token."""

from __future__ import annotations

# The errors by which an OAuth server itself refuses: RFC 6749 §4.1.2.1 and §5.2, RFC 6750 §3.1, RFC 7009 §2.2.1,
# RFC 8628 §3.5, RFC 8693 §2.2.2, OpenID Connect Core 1.0 §3.1.2.6. `server_error`, `temporarily_unavailable` and
# `slow_down` are left out: they say "later", not "no".
DENIALS = frozenset(
    {
        "access_denied",
        "account_selection_required",
        "authorization_pending",
        "consent_required",
        "expired_token",
        "insufficient_scope",
        "interaction_required",
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "invalid_target",
        "invalid_token",
        "login_required",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_response_type",
        "unsupported_token_type",
    }
)


class OAuthDenied(Exception):
    """The provider's OAuth server answered, and said no. `code` is its error (RFC 6749 §5.2), one of DENIALS."""

    def __init__(self, what: str, code: str) -> None:
        super().__init__(f"The identity provider refused {what}: {code}.")
        self.code = code


class NotNarrowed(OAuthDenied):
    """The provider was asked for a token for one audience, and gave one that others would take, too."""

    def __init__(self, audience: str, why: str) -> None:
        Exception.__init__(self, f"The identity provider gave no token for {audience} alone: {why}.")
        self.code = "invalid_target"


class OAuthUnavailable(Exception):
    """No usable answer. `sent` False: the provider cannot have acted on the request; True: it may have."""

    def __init__(self, what: str, why: str, *, sent: bool) -> None:
        super().__init__(f"The identity provider gave no usable answer to {what}: {why}.")
        self.sent = sent


class OAuthNotOffered(OAuthUnavailable):
    """The provider's metadata names no such endpoint: there is nobody to ask."""

    def __init__(self, name: str) -> None:
        super().__init__("discovery", f"it offers no {name}", sent=False)
