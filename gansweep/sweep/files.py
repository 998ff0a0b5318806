"""The files of a sweep's folder."""

from __future__ import annotations

PLAN_FILE = "plan.json"
"""Its trials and how each one stands."""

LOG_FILE = "driver.log"

SHEET_FILE = "samples.png"
"""The last grids of its trials, as one picture."""

SHARES, DEAL_FILE = "shares", "deal.json"
"""A folder with the plans of its shares, and the file therein that says which trial is whose."""

JOURNAL_FILE = "decisions.jsonl"
"""What its scheduler was told and answered."""

PACES_FILE = "paces.json"
"""What trials have taken here, for forecasts."""

SPENT_FILE = "spent.json"
"""What its commands have taken."""
