"""Reads by id: follow-ups of changed records, records that a full scan did not show, audit logs."""
