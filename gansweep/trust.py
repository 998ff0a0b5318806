"""Whether a sweep file may name classes by import path: to import them is to run their code."""

from __future__ import annotations

own_code = True
"""False after `--trusted-only`: built-in names alone."""
