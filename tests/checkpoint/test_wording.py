"""Texts of libraries lose the folders of this machine and nothing else."""

import pytest

from service.wording import without_folders


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("The repository /tmp/minicpm-x1/ab contains code", "The repository ab contains code"),
        ("error:/srv/models/a.json", "error:a.json"),
        ("'/srv/a b/c.json' is gone", "'a b/c.json' is gone"),
        ("see file:///srv/models/a.json", "see file://a.json"),
        ("see https://hf.co//srv/models/a for help", "see https://hf.co/a for help"),
        ("路径/srv/models/a.json", "路径a.json"),
        ("see https://huggingface.co/docs/a/b", "see https://huggingface.co/docs/a/b"),
        ("openbmb/MiniCPM-V-4/config.json", "openbmb/MiniCPM-V-4/config.json"),
        ("<image></image><slice></slice>", "<image></image><slice></slice>"),
        ("either/or, 1/2, ./a/b", "either/or, 1/2, ./a/b"),
    ],
)
def test_folders_are_cut_and_everything_else_stays(text: str, shown: str) -> None:
    assert without_folders(text) == shown
