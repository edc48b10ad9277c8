"""The proof of completeness: the audit logs of known records against what was published."""
