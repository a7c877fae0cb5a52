"""Judges how a chat template marks videos, which this service does not take: training may have seen them.

Knows no setting of a processor; `picture_settings` and `origin` do.
"""

from collections.abc import Iterator

from service.audit.check import Outcome, warning
from service.domain.facts import TemplateFacts, TokenizerFacts


def videos_are_marked(template: TemplateFacts, tokenizer: TokenizerFacts, name: str) -> Iterator[Outcome]:
    """Say that a template marks a video as a picture although the tokenizer has a placeholder for videos.

    A template that refuses videos, or leaves them out, is no fault here.
    """
    found = template.video_placeholders
    picture, video = tokenizer.texts.get("image_token"), tokenizer.texts.get("video_token")
    if not picture or not video or picture == video or not found.get("image_token"):
        return
    yield warning(
        f"for a video {name} writes {picture}, the placeholder of pictures, {found['image_token']} time(s), and "
        f"{video} {found.get('video_token', 0)} time(s)",
        {"placeholders": dict(found), "picture": picture, "video": video},
        "This service takes no video. If training used this template, the model learned videos as pictures; servers "
        "that take videos put their features elsewhere, or nowhere.",
        f"Write {video} for a video, as the base's template does; where videos were trained so, train them again.",
    )
