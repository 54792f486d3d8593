"""The judges: one file each. No host needed; heavy imports only when judging."""
