"""An adapter is judged with the tokenizer files that it will be served with."""

import json
from pathlib import Path

from service.overlay import overlay
from tests.builders import add_token, copy_demo, copy_tokenizer, token_id


def test_an_adapter_without_tokenizer_files_has_no_tokenizer_of_its_own(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    with overlay(folders.base, folders.adapter) as folder:
        assert folder is None
    facts = folders.facts().adapters["json"]
    assert (facts.tokenizer, facts.template, facts.new_tokens) == (None, None, {})


def test_own_files_win_and_the_base_s_fill_the_gaps(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    template = (folders.base / "chat_template.jinja").read_text()
    (folders.adapter / "chat_template.jinja").write_text(template.replace("<think>", "<image>"))
    facts = folders.facts()
    own, base = facts.adapters["json"], facts.base
    assert own.tokenizer is not None
    assert base.tokenizer is not None
    assert own.template is not None
    assert own.tokenizer.vocabulary == base.tokenizer.vocabulary
    assert "<think>" not in own.template.control_tokens


def test_a_new_token_is_one_that_the_base_s_vocabulary_lacks(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    copy_tokenizer(folders.base, folders.adapter)
    new = add_token(folders.adapter, "<stamp>")
    assert folders.facts().adapters["json"].new_tokens == {"<stamp>": new}
    assert new == token_id(folders.adapter, "<stamp>")


def test_a_template_in_the_adapter_s_config_wins_over_the_base_s_file(tmp_path: Path) -> None:
    folders = copy_demo(tmp_path)
    template = (folders.base / "chat_template.jinja").read_text().replace("<think>", "<image>")
    config = json.loads((folders.base / "tokenizer_config.json").read_text())
    (folders.adapter / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    own = folders.facts().adapters["json"].template
    assert own is not None
    assert "<think>" not in own.control_tokens
