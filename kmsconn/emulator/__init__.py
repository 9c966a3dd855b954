"""The dependencies: three chains, Cores and buckets, over memory streams in virtual time and over sockets alike."""

from __future__ import annotations

from kmsconn.extras import require_extra

require_extra("emulator", "kmsconn.emulator")
