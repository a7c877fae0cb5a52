"""Words for a waiver, for reports that have one line a finding.

Knows no format.
"""

from service.domain.judgement import Finding


def waived_words(finding: Finding) -> str:
    """Say with which reason a finding was accepted, and when that ended; empty if it never was."""
    if finding.waiver:
        return f" (waived: {finding.waiver.reason})"
    expired = finding.expired_waiver
    return f" (waived until {expired.expires}: {expired.reason})" if expired else ""
