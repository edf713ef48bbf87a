"""Counterfactual words by a model behind an OpenAI-compatible address. Nothing is sent unless you make one."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import count
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from icp.counterfactual.spec import Spec
from icp.counterfactual.written import Shot, Written
from icp.errors import EndpointError

AGAIN = (408, 409, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Endpoint(Written):
    """A served model writes the words that say another value; see `Written` for what is kept of them.

    Texts are sent to `base_url`/chat/completions, such as `http://127.0.0.1:8000/v1`, and `api_key` goes with them as a
    bearer token where it is given. The first answer is asked for at temperature 0; `samples` more, at `temperature`,
    come with seeds counted from `seed`: whether the same seed gives the same answer is up to the server. What fails is
    tried again `retries` times, after `pause` seconds and then twice as long each time, where it may pass by itself.
    Raises `EndpointError` where it does not.
    """

    variable: str
    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    shots: Sequence[Shot] = ()
    to: Sequence[str] = ()
    samples: int = 1
    temperature: float = 1.0
    seed: int = 0
    max_tokens: int = 24
    most_words: int = 6
    timeout: float = 60.0
    retries: int = 3
    pause: float = 1.0

    def begin(self, spec: Spec) -> None:
        super().begin(spec)
        if not self.base_url.startswith(("http://", "https://")):
            raise EndpointError(f"base_url is {self.base_url!r}: it has to begin with http:// or https://")
        if self.retries < 0 or not self.timeout > 0 or not self.pause >= 0:
            raise EndpointError(
                f"timeout={self.timeout}, retries={self.retries} and pause={self.pause}: give a timeout above 0 and "
                "the others at least 0"
            )

    def write(self, prompt: str) -> list[str]:
        return [self._answer(prompt, number) for number in range(self.samples)]

    def _answer(self, prompt: str, number: int) -> str:
        asked = {
            "model": self.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": self.max_tokens,
            "temperature": self.temperature if number else 0.0, "seed": self.seed + number,
        }  # fmt: skip
        told = self._posted(asked)
        try:
            return told["choices"][0]["message"]["content"] or ""
        except (KeyError, IndexError, TypeError) as error:
            raise EndpointError(f"{self._url} answered {str(told)[:200]!r}, which is no chat completion") from error

    @property
    def _url(self) -> str:
        return self.base_url.rstrip("/") + "/chat/completions"

    def _posted(self, asked: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        for attempt in count():
            try:
                request = Request(self._url, json.dumps(asked).encode(), headers)
                with urlopen(request, timeout=self.timeout) as answer:
                    return json.loads(answer.read())
            except HTTPError as error:
                why, final = f"status {error.code}: {error.read(200).decode(errors='replace')}", error.code not in AGAIN
            except (URLError, OSError, HTTPException) as error:
                why, final = str(getattr(error, "reason", error)) or type(error).__name__, False
            except ValueError as error:
                raise EndpointError(f"{self._url} answered what is no JSON ({error}): is it a chat API?") from error
            if final or attempt == self.retries:
                tries = f"after {attempt + 1} tries" if attempt else "at once"
                raise EndpointError(f"{self._url} failed {tries} ({why.strip()}): check base_url, model and api_key")
            time.sleep(self.pause * 2**attempt)
