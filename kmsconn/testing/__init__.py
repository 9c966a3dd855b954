"""Public: worlds, fault scripts and strategies for suites that prove a connector."""

from __future__ import annotations

from kmsconn.extras import require_extra

require_extra("testing", "kmsconn.testing")
