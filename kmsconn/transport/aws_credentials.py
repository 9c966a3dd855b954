"""What is wrong with the credentials that the SDK of AWS uses, in words: where it looked for them, and the file of a web identity.

Reads what the SDK reads, once it has failed. Never shows a key or a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

WEB_IDENTITY: Final = "assume-role-with-web-identity"
"""What the SDK calls credentials that it gets for a token in a file."""
_TOKEN, _ROLE = "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"
_KEY, _SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
_CONTAINER = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_NO_METADATA = "AWS_EC2_METADATA_DISABLED"
_EXCHANGE = "AssumeRoleWithWebIdentity"
_SHORTEST_TOKEN = 4  # characters that AWS takes
_ARN = "arn:"


@attrs.frozen
class SdkCredentials:
    """Where one session of the SDK looks for credentials."""

    session: Any = attrs.field(repr=False)
    environment: Mapping[str, str] = attrs.field(repr=False)

    def fault_behind(self, error: Exception) -> str:
        """Return what is wrong with the credentials and what to do, if an error comes of that; empty if it does not."""
        from botocore import exceptions

        if isinstance(error, exceptions.NoCredentialsError):
            return f"NoCredentialsError: none were found in {self.sought}"
        if isinstance(error, exceptions.PartialCredentialsError | exceptions.ProfileNotFound):
            return f"{type(error).__name__}: {error}"  # it names a variable or a profile
        of_tokens = (exceptions.ParamValidationError, exceptions.InvalidConfigError, OSError, UnicodeError)
        return self.token_fault() if isinstance(error, of_tokens) else ""

    def token_refused_by(self, error: Exception) -> str:
        """Return which file has the token that AWS refuses with this error; empty if it is no answer to a token."""
        return self.token if getattr(error, "operation_name", "") == _EXCHANGE else ""

    @property
    def sought(self) -> str:
        """The places where the SDK looked, in its order, with what is known of each."""
        files = " and ".join(self._variable(name) for name in ("credentials_file", "config_file"))
        off = self.environment.get(_NO_METADATA, "").lower() == "true"
        return ", ".join(
            [
                *(self._shown(name) for name in (_KEY, _SECRET, _TOKEN)),
                f"profile {self._profile_name} of {files} ({'there' if self._profile else 'not there'})",
                *(self._shown(name) for name in _CONTAINER),
                f"the metadata service of an instance ({f'switched off by {_NO_METADATA}' if off else 'gives none'})",
            ]
        )

    @property
    def token(self) -> str:
        """Which file has the token of a web identity; empty if none is named."""
        path = self._token_path
        return f"the web-identity token {path} ({self._named_by(_TOKEN)})" if path else ""

    def token_fault(self) -> str:
        """Return what is wrong with the token of a web identity, its file or its role, and what to do; empty if nothing is wrong.

        Without such a token nothing is. Reads the file, as the SDK does at each renewal.
        """
        if not self._token_path:
            return ""
        role = self.environment.get(_ROLE) or self._profile.get("role_arn", "")
        if not role.startswith(_ARN):
            wrong = f"{role!r} is no ARN of a role" if role else "no role is named"
            return f"{wrong} for {self.token}: let {_ROLE} name the role that it is for"
        wrong = _wrong_with(self._token_path)
        return (
            f"{self.token} {wrong}: put the token of the service account there, or name its file"
            if wrong
            else ""
        )

    @property
    def _token_path(self) -> str:
        return self.environment.get(_TOKEN) or self._profile.get("web_identity_token_file", "")

    @property
    def _profile(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.session.full_config.get("profiles", {}).get(self._profile_name, {})
        return found

    @property
    def _profile_name(self) -> str:
        return self._variable("profile") or "default"

    def _named_by(self, name: str) -> str:
        return name if self.environment.get(name) else f"profile {self._profile_name}"

    def _shown(self, name: str) -> str:
        return f"{name} ({'set' if self.environment.get(name) else 'not set'})"

    def _variable(self, name: str) -> str:
        return str(self.session.get_config_variable(name) or "")


def _wrong_with(path: str) -> str:
    """Return what is wrong with the file of a token; nothing if AWS may take it."""
    try:
        token = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        return f"cannot be read ({error.strerror or type(error).__name__})"
    except ValueError:
        return "is no text"
    if not token.strip():
        return "is empty"
    return "is too short" if len(token) < _SHORTEST_TOKEN else ""
