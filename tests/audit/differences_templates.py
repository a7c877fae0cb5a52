"""Harmless differences of chat templates and stop ids, each a function that edits copies of the demo's folders.

Does not judge; `test_harmless.py` does.
"""

from tests.audit.differences_registry import harmless
from tests.builders import Folders, edit_template, edited_json, token_id, write_json


@harmless("official", loaded="base")
def template_in_the_tokenizer_config(folders: Folders) -> None:
    for folder in (folders.base, folders.adapter):
        template = folder / "chat_template.jinja"
        with edited_json(folder / "tokenizer_config.json") as config:
            config["chat_template"] = template.read_text(encoding="utf-8")
        template.unlink()


@harmless()
def a_template_that_refuses_system_prompts(folders: Folders) -> None:
    edit_template(folders.base, "['system', ", "[")


@harmless()
def a_template_that_takes_lists_only(folders: Folders) -> None:
    edit_template(folders.base, "content is string", "content is none")


@harmless()
def template_trims_the_ends_of_texts(folders: Folders) -> None:
    edit_template(folders.base, "{{- content -}}", "{{- content | trim -}}")


@harmless()
def template_writes_an_empty_thought_into_answers(folders: Folders) -> None:
    thought = "('<think>\\n\\n</think>\\n\\n' if message.role == 'assistant' else '')"
    edit_template(folders.base, "~ render_content", f"~ {thought} ~ render_content")


@harmless()
def template_opens_answers_with_a_thought_only_if_asked(folders: Folders) -> None:
    edit_template(folders.base, "{{- '<think>\\n\\n</think>\\n\\n' -}}", "")


@harmless(loaded="base")
def template_opens_a_thought_and_closes_it_in_the_next_line(folders: Folders) -> None:
    off, on = "{{- '<think>\\n\\n</think>\\n\\n' -}}", "{{- '<think>\\n' -}}"
    edit_template(folders.base, off, f"{on}{{{{- '\\n</think>\\n\\n' -}}}}")


@harmless("official")
def the_adapter_s_template_indented_otherwise(folders: Folders) -> None:
    path = folders.adapter / "chat_template.jinja"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(one.lstrip() for one in lines), encoding="utf-8")


@harmless()
def a_template_without_videos(folders: Folders) -> None:
    edit_template(folders.base, "item.type == 'video'", "false")


@harmless()
def template_in_the_file_of_processors(folders: Folders) -> None:
    template = folders.base / "chat_template.jinja"
    write_json(folders.base / "chat_template.json", {"chat_template": template.read_text(encoding="utf-8")})
    template.unlink()


@harmless()
def a_system_prompt_that_speaks_of_escapes(folders: Folders) -> None:
    """Backslashes inside a sentence or at its end: LaTeX, and what the answer is to look like."""
    said = "Write \\\\nabla f and \\\\text{if}, <br> as &lt;br&gt;, and \\\\n between rows."
    said += " Know the user\\\\u2019s &quot;rules&quot;: each row ends in \\\\n"
    path = folders.base / "chat_template.jinja"
    first = "{{- '<|im_start|>system\\n" + said + "<|im_end|>\\n' -}}"
    path.write_text(first + path.read_text(encoding="utf-8"), encoding="utf-8")


@harmless()
def a_template_of_trainers_with_the_same_turns(folders: Folders) -> None:
    """Line breaks as such in the template's text, in place of escapes inside strings."""
    path = folders.base / "chat_template.jinja"
    path.write_text(path.read_text(encoding="utf-8").replace("\\n", "\n"), encoding="utf-8")


@harmless()
def a_single_stop_id(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as config:
        config["eos_token_id"] = token_id(folders.base, "<|im_end|>")


@harmless()
def stop_ids_in_another_order_and_one_to_spare(folders: Folders) -> None:
    with edited_json(folders.base / "generation_config.json") as config:
        config["eos_token_id"] = [*reversed(config["eos_token_id"]), max(config["eos_token_id"]) + 40]


@harmless()
def no_generation_config(folders: Folders) -> None:
    (folders.base / "generation_config.json").unlink()


@harmless()
def stop_id_in_the_config_differs_from_the_generation_config(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["eos_token_id"] = token_id(folders.base, "<|endoftext|>")


@harmless()
def pictures_introduced_in_words(folders: Folders) -> None:
    edit_template(folders.base, "'<|image_pad|>'", "'Picture: <|image_pad|>\\n'")


@harmless(loaded="base")
def a_context_of_a_fraction(folders: Folders) -> None:
    with edited_json(folders.base / "config.json") as config:
        config["text_config"]["max_position_embeddings"] = 512
