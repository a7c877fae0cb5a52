"""Check of the chat template: is every message in the prompt, every turn closed, every prompt of training's form.

Knows no stop id, which `stop_set` does, and of pictures only to ask `marked_pictures.py`.
"""

from collections.abc import Iterator

from service.audit.check import AdapterView, BaseView, Check, Outcome, fatal, note, warning
from service.audit.checks.marked_pictures import markers_are_the_processor_s, markers_of, pictures_are_marked
from service.audit.checks.prompt_ends import nothing_ends_the_prompt, nothing_fills_the_prompt
from service.audit.checks.thoughts import thoughts_are_closed, thoughts_are_expected, thoughts_are_tokens
from service.audit.checks.tokens import NEEDED_ROLES
from service.audit.checks.videos import videos_are_marked
from service.audit.template_wording import COPY, SPOKEN
from service.domain.facts import OriginFacts, TemplateFacts, TokenizerFacts

WITHOUT_CHAT = frozenset({"got_ocr2"})
"""Model types whose processor writes the prompt itself."""
EARLIER = "turns: "
"""Begins the names of lost messages that others follow."""
NUM_EARLIER = 2
WHY = """\
Training saw turns in one form, and the template must write them in the same: `<|im_start|>user`, text, `<|im_end|>`,
and an opened assistant turn at the end. A folder without a template makes some servers guess one by the folder's name.
Templates of trainers close no turn (`empty` of LLaMA-Factory, which MiniCPM5's own documentation recommends), carry
`{% generation %}` tags, insert a system prompt that training did not have, or mark a picture with text that the
processor does not look for. Others quote, escape, cut or flatten what a client wrote, or leave the question's turn
open, spell line breaks out because they went through JSON or HTML once too often, or mark pictures with the tokens that
the processor adds again. Where prompts open no thought, the loaded model is asked whether an empty one makes it surer
of its answers; if it does, a model that would begin some amid a text without one, and none behind one, is refused.
Where they open one and do not close it, it reads finished answers within it: a model that would end its turn there and
never close the thought does not think. The template is rendered on fixed conversations, in English and Chinese, as this
service renders it (MiniCPM-V up to 4.5 without thinking, unless a request asks for it), and the result is compared
token by token with the origin's. Tuning may have used another template, so that a difference is a warning; it is fatal
where no weight was tuned, or where a merged adapter did not bring it. A system prompt that is put before the same turns
stays a warning.

Models that see encode a rendered prompt as any text, so that a token which the post-processor of tokenizer.json puts
behind texts closes the prompt where the answer should begin: the 4.5 demo then answers 5 of 30 questions instead of 30.
A start token in front changed no answer. Processors of 4.6 and later fill prompts up where a tokenizer file asks."""


def base_chat_template(view: BaseView) -> Iterator[Outcome]:
    """Look at the base's template, and compare what it renders with the origin's."""
    base = view.base
    if base.tokenizer is None or base.template is None:
        return
    if not base.template.is_present and base.model_type not in WITHOUT_CHAT:
        yield fatal(
            "the folder has no chat template in any of its files",
            {"files": ["chat_template.jinja", "tokenizer_config.json", "chat_template.json"]},
            "No request can be rendered; other servers guess a template by the folder's name.",
            COPY,
        )
        return
    claimed = base.documents.get("config.json", {}).get("image_token_id")
    is_seeing = base.model_type in NEEDED_ROLES and base.tokenizer.named.get("image_token") == claimed
    yield from _renders(base.template, base.tokenizer, is_seeing=is_seeing, name="the chat template")
    before = view.origin.base.tokenizer if view.origin else None
    yield from nothing_ends_the_prompt(base, base.tokenizer, before, "tokenizer.json")
    yield from nothing_fills_the_prompt(base, base.tokenizer, before, "tokenizer.json")
    markers = markers_of(base, base.tokenizer)
    yield from markers_are_the_processor_s(base.template, base.tokenizer, markers, "the chat template")
    origin = view.origin.base.template if view.origin else None
    yield from thoughts_are_expected(view)
    yield from thoughts_are_closed(view)
    if not (view.origin and _is_token_lost(base.template, view.origin.base.tokenizer)):  # special_ids says so
        yield from thoughts_are_tokens(base)
    if view.origin and origin and origin.is_present and not origin.error and not base.template.error:
        brought = view.merge.adapter.template if view.merge else None
        known = [one for one in (origin, brought) if one and one.is_present and not one.error]
        is_foreign = view.merge is not None and all(_different(base.template, one) for one in known)
        yield from _renders_the_same(
            base.template, origin, view.origin, is_certain=is_foreign or view.origin.is_untuned
        )


def adapter_chat_template(view: AdapterView) -> Iterator[Outcome]:
    """Look at an adapter's own template. It may differ from the base's: training may have used another one."""
    template, tokenizer = view.adapter.template, view.adapter.tokenizer
    if template is None or tokenizer is None or not template.is_present:
        return
    is_seeing = view.base.model_type in NEEDED_ROLES
    yield from _renders(template, tokenizer, is_seeing=is_seeing, name="the adapter's chat template")
    yield from nothing_ends_the_prompt(view.base, tokenizer, view.base.tokenizer, "the adapter's tokenizer.json")
    yield from nothing_fills_the_prompt(view.base, tokenizer, view.base.tokenizer, "the adapter's tokenizer.json")
    markers = markers_of(view.base, tokenizer)
    yield from markers_are_the_processor_s(template, tokenizer, markers, "the adapter's chat template")
    yield from thoughts_are_expected(view)
    yield from thoughts_are_closed(view)
    base = view.base.template
    if base and base.is_present:
        yield from _training_only(template, base)
    if base is None or template.error:
        return
    if names := _broken_otherwise(template, base):
        yield _line_breaks(template, base, names, "the adapter's chat template", "the base's")
    elif names := _different(template, base):
        yield note(
            f"the adapter's chat template renders {', '.join(names)} otherwise than the base's",
            {"conversations": names},
        )


def _renders(template: TemplateFacts, tokenizer: TokenizerFacts, *, is_seeing: bool, name: str) -> Iterator[Outcome]:
    if template.error:
        yield fatal(
            f"{name} fails on a plain conversation: {template.error}",
            {"error": template.error},
            "Every request fails.",
            COPY,
        )
        return
    if not template.is_present:
        return
    yield from _turns_are_marked(template, tokenizer, name)
    if template.spelled:
        yield fatal(
            f"{name} spells line breaks, quotes or brackets out where those of turns belong: "
            + ", ".join(map(repr, template.spelled[:3])),
            {"places": list(template.spelled[:50]), "count": len(template.spelled)},
            "It was escaped once too often: the model reads a backslash and a letter where training had a line break.",
            COPY,
        )
    if lost := [*template.lost, *(template.lost_beside_pictures if is_seeing else ())]:
        yield _dropped(lost, name)
    if template.altered:
        yield fatal(
            f"{name} does not write a message as it was given: {', '.join(template.altered)}",
            {"altered": list(template.altered)},
            "The model reads other words than the client wrote, such as escaped quotes, or a part of them only.",
            COPY,
        )
    if template.split_markers:
        yield fatal(
            f"{name} writes {', '.join(template.split_markers[:5])}, which the tokenizer splits into ordinary text"
            + ("; its split_special_tokens is true" if tokenizer.splits_special else ""),
            {"markers": list(template.split_markers)},
            "The model reads letters where training had a control token: turns and pictures are not recognised.",
            "Restore tokenizer and template from the base as one set: minicpm-service repair.",
        )
    if is_seeing:
        yield from pictures_are_marked(template, tokenizer, name)
        yield from videos_are_marked(template, tokenizer, name)
    if template.rivals:
        yield note(
            f"{', '.join(template.rivals)} hold(s) another template than the one that is used",
            {"files": list(template.rivals)},
            "Other servers may render other prompts from the same folder.",
            "Keep one template.",
        )


def _dropped(lost: list[str], name: str) -> Outcome:
    """Say which messages do not reach the prompt. The last one does, or rendering fails."""
    earlier = [one for one in lost if one.startswith(EARLIER)]
    others = ", ".join(one for one in lost if one not in earlier)
    if not earlier:
        return fatal(
            f"{name} drops messages: {others}",
            {"lost": lost},
            "The model never sees what the client said there.",
            COPY,
        )
    is_last_only = len(earlier) == NUM_EARLIER
    return fatal(
        f"{name} writes {'the last message of a conversation only' if is_last_only else 'not all of a conversation'}: "
        f"its earlier messages are lost ({', '.join(earlier)})" + (f", and so is {others}" if others else ""),
        {"lost": lost},
        "Every question is answered as if nothing had been said before it: the history of the conversation, with its "
        "pictures, never reaches the model, and a second question about a picture finds none.",
        f"Let the template go through all messages. {COPY}",
    )


def _turns_are_marked(template: TemplateFacts, tokenizer: TokenizerFacts, name: str) -> Iterator[Outcome]:
    if template.split_markers or template.altered or template.spelled:
        return  # the marks are there, and are not tokens; or what is written around a text hides them
    if any(one.startswith(EARLIER) for one in template.lost):
        return  # nothing is written of the questions whose marks are compared
    if template.is_question_open:
        yield fatal(
            f"{name} closes answers with {template.turn_end}, and questions with nothing",
            {"turn_end": template.turn_end, "opening": template.openings[1]},
            "Training closed every turn: the model reads the answer's turn as a part of the question.",
            COPY,
        )
        return
    asked, finished = template.openings
    if template.is_prompting and not asked.startswith(finished) and not finished.startswith(asked):
        yield fatal(
            f"{name} leads from a question to its answer with {finished!r} in a conversation that is finished, but "
            f"with {asked!r} where an answer is to be written",
            {"finished": finished, "asked": asked},
            "The question's turn stays open, or the turn of another role is opened: training saw the other form.",
            COPY,
        )
        return
    if template.turn_end is None:
        pictures = {text for part, text in tokenizer.texts.items() if part.startswith(("image", "video", "slice"))}
        marks = sorted(template.control_tokens.keys() - pictures)
        severity = warning if marks else fatal
        yield severity(
            f"{name} closes an answer with no token" + ("" if marks else ", and marks no turn with one"),
            {"control_tokens": marks},
            "The model cannot tell where a turn ends: it was trained on other prompts, or never learned to stop.",
            COPY,
        )
    elif not template.is_prompting:
        yield fatal(
            f"{name} does not open the assistant's turn",
            {"turn_end": template.turn_end},
            "The model is left to begin a turn of its own choice, often the user's.",
            COPY,
        )


def _renders_the_same(
    template: TemplateFacts, origin: TemplateFacts, tuning: OriginFacts, *, is_certain: bool
) -> Iterator[Outcome]:
    """Compare with the origin's template.

    Args:
        template: The folder's.
        origin: The origin's.
        tuning: What changed in the weights.
        is_certain: Training cannot have used the folder's: nothing was trained since, or what was merged brought
            another.
    """
    yield from _training_only(template, origin)
    names = _different(template, origin)
    if names == ["finished"]:
        yield note(
            "the chat template ends a finished conversation otherwise than the origin's; no prompt ends so",
            {"conversations": names},
        )
    elif broken := _broken_otherwise(template, origin):
        yield _line_breaks(template, origin, broken, "the chat template", "the origin's")
    elif names:
        is_led_alike = template.lead == origin.lead
        is_fatal = is_certain and not (is_led_alike and _is_only_begun_otherwise(template, origin, names))
        yield (fatal if is_fatal else warning)(
            f"the chat template renders {', '.join(names)} otherwise than the origin's"
            + ("" if is_led_alike else f": it leads to an answer with {template.lead!r}, not with {origin.lead!r}"),
            {
                "lead": {"found": template.lead, "expected": origin.lead},
                "conversations": {
                    name: {
                        "found": list(template.conversations.get(name) or ())[:60],
                        "expected": list(origin.conversations.get(name) or ())[:60],
                    }
                    for name in names[:3]
                },
            },
            "Every prompt differs from what the model learned; no tensor was tuned to it."
            if is_certain
            else "If training used the origin's template, every prompt differs from what the model learned; tensors "
            f"changed by {max((one.relative for one in tuning.changed.values()), default=0.0):.1%} at most.",
            "Serve the template that training used; if that was the origin's, copy its chat_template.jinja.",
        )


def _is_only_begun_otherwise(template: TemplateFacts, other: TemplateFacts, names: list[str]) -> bool:
    """Say whether what the other writes is there, behind a system prompt that this one adds of its own accord."""
    for name in names:
        found, expected = template.conversations.get(name), other.conversations.get(name)
        if not found or not expected or found[-len(expected) :] != expected:
            return False
    return True


def _different(template: TemplateFacts, other: TemplateFacts) -> list[str]:
    return [name for name, ids in other.conversations.items() if template.conversations.get(name) != ids]


def _is_token_lost(template: TemplateFacts, known: TokenizerFacts | None) -> bool:
    return known is not None and any(one in known.added for one in template.plain_marks)


def _broken_otherwise(template: TemplateFacts, other: TemplateFacts) -> list[str]:
    """Name the conversations that differ in white space, if nothing else differs.

    A trainer's own template differs in more: a system prompt, a thought, a role. The frameworks' forms of one chat
    format agree in the line breaks between turns.
    """
    names = _different(template, other)
    is_worded_alike = all(template.wordings.get(name, "") == other.wordings.get(name) for name in names)
    broken = [one for one in SPOKEN if one in names and template.renderings.get(one) != other.renderings.get(one)]
    return broken if is_worded_alike else []


def _line_breaks(template: TemplateFacts, other: TemplateFacts, names: list[str], name: str, others: str) -> Outcome:
    return fatal(
        f"{name} writes other line breaks between turns than {others}, in {', '.join(names)}, and nothing else differs",
        {
            "conversations": {
                one: {
                    "found": list(template.conversations.get(one) or ())[:60],
                    "expected": list(other.conversations.get(one) or ())[:60],
                }
                for one in names
            }
        },
        "Every turn ends or begins with a token that training did not have there: a model that was tuned little shifts "
        "every answer a little, one that counts on the line break does not end or begin its turn.",
        f"Copy chat_template.jinja from the folder whose line breaks training used; {others} is the likely one.",
    )


def _training_only(template: TemplateFacts, other: TemplateFacts) -> Iterator[Outcome]:
    """Say that a template was made for computing a loss. What it renders otherwise is found by itself."""
    if template.training_tags and not other.training_tags:
        yield note(
            f"the chat template holds the tag {template.training_tags[0]}, which only trainers use",
            {"tags": list(template.training_tags)},
        )


CHECK = Check(
    "chat_template", "Prompts have the form that training used", base_chat_template, adapter_chat_template, why=WHY
)
