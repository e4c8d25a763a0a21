"""The prompts that builds took from the registry, as files named by digest: what stages read.

Knows files; nothing of the registry that a prompt came from.
"""

from dataclasses import asdict
from pathlib import Path

from headwater.errors import HeadwaterError, IntegrityError
from headwater.files import read_json, write_json
from headwater.records import Prompt, short
from headwater.settings import Settings

#: In the folder of prompts: names the one that the last build took.
CURRENT = "current.json"


def publish_prompt(settings: Settings, prompt: Prompt) -> None:
    """Keep the prompt and make it the current one."""
    write_json(_path(settings, prompt.digest), asdict(prompt))
    write_json(settings.prompts / CURRENT, {"digest": prompt.digest})


def current_prompt(settings: Settings) -> Prompt:
    """The prompt that the last build took.

    Raises:
        HeadwaterError: there is none yet.
    """
    current = read_json(settings.prompts / CURRENT)
    if current is None:
        raise HeadwaterError(
            f"No build has put a prompt into {settings.prompts} yet.", mend="Run `headwater build`."
        )
    return load_prompt(settings, current["digest"])


def load_prompt(settings: Settings, digest: str) -> Prompt:
    """The prompt of this digest.

    Raises:
        IntegrityError: its file is missing, or not what its name says.
    """
    saved = read_json(_path(settings, digest))
    prompt = Prompt.from_json(saved) if saved else None
    if prompt is None or prompt.digest != digest:
        raise IntegrityError(
            f"The prompt {short(digest)} in {settings.prompts} is missing or altered.",
            mend="Delete that folder and materialize `prompt` again.",
        )
    return prompt


def _path(settings: Settings, digest: str) -> Path:
    return settings.prompts / f"{digest}.json"
