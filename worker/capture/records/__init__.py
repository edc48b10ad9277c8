"""The processing of single records: fingerprints, changes, events. No I/O."""
