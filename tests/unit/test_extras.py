"""What is said where a package of an optional part is not installed, and in a frozen program."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

import kmsconn.emulator
import kmsconn.testing
from kmsconn.ciphertexts.sdk import open_sdk
from kmsconn.config.description import AwsKmsKey
from kmsconn.extras import EXTRAS, ExtraMissing, require_extra
from kmsconn.frozen import frozen
from kmsconn.model.events import ignore
from kmsconn.operate.commands.main import main
from kmsconn.replies.wallet import open_aws_kms
from kmsconn.transport.ports import offload_inline

Remove = Callable[..., None]


@pytest.fixture
def remove(monkeypatch: pytest.MonkeyPatch) -> Remove:
    """Give what makes packages look as if they were not installed."""

    def from_here(*packages: str) -> None:
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)

    return from_here


@pytest.mark.parametrize("extra", EXTRAS)
def test_nothing_is_said_where_all_are_installed(extra: str) -> None:
    require_extra(extra, "this")


@pytest.mark.parametrize(
    ("extra", "package"), [(one, name) for one, names in EXTRAS.items() for name in names]
)
def test_each_package_is_missed(extra: str, package: str, remove: Remove) -> None:
    remove(package)
    with pytest.raises(ExtraMissing, match=f"this needs {package}, .* pip install 'kmsconn\\[{extra}\\]'"):
        require_extra(extra, "this")


def test_all_that_are_missing_are_named_at_once(remove: Remove) -> None:
    remove(*EXTRAS["aws"])
    with pytest.raises(ExtraMissing, match="aiobotocore, cryptography"):
        require_extra("aws", "this")


@pytest.mark.parametrize("arguments", [["demo"], ["emulate", "--write-config", "never.toml"]])
def test_a_command_without_its_packages_says_what_to_install(
    arguments: list[str],
    remove: Remove,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    remove("kyber_py", "rich")
    assert main(arguments) == 3
    assert capsys.readouterr().err == (
        f"kmsconn: refused to start: kmsconn {arguments[0]} needs kyber_py, rich, not installed here: "
        "install the extra 'emulator' with: pip install 'kmsconn[emulator]'\n"
    )
    assert not Path("never.toml").exists()


@pytest.mark.parametrize(
    ("package", "lacking"), [(kmsconn.emulator, "kyber_py"), (kmsconn.testing, "hypothesis")]
)
def test_a_package_of_ours_cannot_be_imported_without_its_own(
    package: object, lacking: str, remove: Remove
) -> None:
    remove(lacking)
    with pytest.raises(ImportError, match=rf"kmsconn\.\w+ needs {lacking}, "):
        importlib.reload(package)  # type: ignore[arg-type]


async def test_a_wallet_in_aws_kms_without_the_sdk_ends_the_start(remove: Remove) -> None:
    remove("aiobotocore")
    with pytest.raises(ExtraMissing, match=r"aws_kms_config needs aiobotocore, .*kmsconn\[aws\]"):
        async with open_aws_kms(AwsKmsKey("alias/sender", None, None), ignore):
            pass


async def test_buckets_that_want_credentials_without_the_sdk_end_the_start(remove: Remove) -> None:
    remove("aiobotocore")
    with pytest.raises(ExtraMissing, match=r"httpz-rc7 does, needs aiobotocore, .*kmsconn\[aws\]"):
        async with open_sdk(offload_inline):
            pass


@frozen
class Point:
    """A value with each sort of default."""

    x: int
    y: int = 0
    names: tuple[str, ...] = attrs.field(factory=tuple, repr=False)


def test_they_are_hashed_by_value_have_slots_and_are_made_by_plain_assignments() -> None:
    assert {Point(1): "here"}[attrs.evolve(Point(2), x=1)] == "here"
    assert repr(Point(1)) == "Point(x=1, y=0)"
    assert not hasattr(Point(1), "__dict__")
    assert "_setattr" not in Point.__init__.__code__.co_varnames
