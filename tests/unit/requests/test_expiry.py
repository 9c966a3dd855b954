"""When decryptions expire: by the option, else by the release of the network, whose age bounds what is not known."""

from __future__ import annotations

import pytest

from kmsconn.requests.checker import DAY, HOUR, DecryptionExpiry


@pytest.mark.parametrize(
    ("option", "later", "seconds"),
    [
        pytest.param(None, None, DAY, id="nobody knows the network yet"),
        pytest.param(None, False, DAY, id="0.14"),
        pytest.param(None, True, HOUR, id="0.15"),
        pytest.param(7200.0, None, 7200.0, id="the option wins"),
        pytest.param(7200.0, False, 7200.0, id="the option wins over 0.14"),
        pytest.param(7200.0, True, 7200.0, id="the option wins over 0.15"),
    ],
)
def test_a_request_expires_at_the_age_of_the_option_or_the_network(
    option: float | None, later: bool | None, seconds: float
) -> None:
    expiry = DecryptionExpiry(option, later)
    assert expiry.seconds() == seconds
    assert expiry.shortest() <= seconds <= expiry.longest()


def test_a_row_of_before_an_upgrade_was_not_recorded_earlier_than_is_thought_for_sure() -> None:
    """It has the deadline of a day, and the network now says an hour."""
    expiry = DecryptionExpiry(None, False)
    deadline = 1000.0 + expiry.seconds()
    expiry.later = True
    assert deadline - expiry.longest() <= 1000.0


def test_a_row_of_an_hour_is_not_taken_for_old_before_the_network_was_asked() -> None:
    """After a restart: what is refused for its age would be refused too early."""
    expiry = DecryptionExpiry(None, True)
    deadline = 1000.0 + expiry.seconds()
    expiry.later = None
    assert deadline - expiry.shortest() >= 1000.0
