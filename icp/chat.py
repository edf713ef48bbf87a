"""A model behind an OpenAI-compatible address. Nothing is sent unless you make one."""

import hashlib
import json
import time
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException
from itertools import count
from pathlib import Path
from socket import gaierror
from ssl import SSLCertVerificationError
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from icp.errors import ArtefactError, EndpointError, NoAnswerError

AGAIN = (408, 409, 429, 500, 502, 503, 504)
OF_A_TEXT = (*AGAIN, 400, 413, 422)
"""Statuses after which another text may be answered: 400 is what servers say of one that is too long for the model."""
UNREACHABLE = (ConnectionRefusedError, gaierror, SSLCertVerificationError)


@dataclass(frozen=True)
class Chat:
    """What is asked is sent to `base_url`/chat/completions, such as `http://127.0.0.1:8000/v1`, with `api_key` as a
    bearer token where it is given.

    What fails is tried again `retries` times, after `pause` seconds and then twice as long each time, where it may pass
    by itself. Where it does not (a timeout, a server error), where the server refuses this one text (status 400, 413 or
    422), and where an answer is no chat completion, `NoAnswerError` is raised; `EndpointError` for what no other text
    would get around: an address that cannot be reached, and any other status.

    With `answers`, a file, every answer is appended there as it comes, and what is there is not asked for again.
    """

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    retries: int = 3
    pause: float = 1.0
    answers: str | Path | None = None

    def __post_init__(self):
        if not self.base_url.startswith(("http://", "https://")):
            raise EndpointError(f"base_url is {self.base_url!r}: it has to begin with http:// or https://")
        if self.retries < 0 or not self.timeout > 0 or not self.pause >= 0:
            raise EndpointError(
                f"timeout={self.timeout}, retries={self.retries} and pause={self.pause}: give a timeout above 0 and "
                "the others at least 0"
            )

    def answer(self, text: str, *, max_tokens: int, temperature: float, seed: int) -> str:
        """What the model says to a text; whether the same seed gives the same answer is up to the server."""
        asked = {
            "model": self.model, "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens,
            "temperature": temperature, "seed": seed,
        }  # fmt: skip
        key = hashlib.sha256(json.dumps([self._url, asked], sort_keys=True).encode()).hexdigest()
        if key in self._known:
            return self._known[key]
        told = self._posted(asked)
        try:
            answer = json.loads(told)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            answer = told
        if not isinstance(answer, str | None):
            raise NoAnswerError(f"{self._url} answered {told[:200]!r}, which is no chat completion")
        self._known[key] = answer or ""
        if self.answers is not None:
            with Path(self.answers).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"asked": key, "answer": answer or ""}, ensure_ascii=False) + "\n")
        return answer or ""

    @cached_property
    def _known(self) -> dict[str, str]:
        """The answers that the file has, by the digest of what was asked."""
        path, known = Path(self.answers or ""), {}
        if self.answers is None or not path.is_file():
            return known
        stored = path.read_bytes()
        whole = stored[: stored.rfind(b"\n") + 1]  # the line that was being written when a run was killed is dropped
        if whole != stored:
            path.write_bytes(whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                told = json.loads(line)
                known[told["asked"]] = told["answer"]
            except (ValueError, KeyError, TypeError) as error:
                raise ArtefactError(f"line {number} of {path} holds no answer: give the file of a Chat") from error
        return known

    @property
    def _url(self) -> str:
        return self.base_url.rstrip("/") + "/chat/completions"

    def _posted(self, asked: dict[str, Any]) -> bytes:
        """The body of the answer."""
        headers = {"Content-Type": "application/json"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        for attempt in count():
            late = False
            try:
                request = Request(self._url, json.dumps(asked).encode(), headers)
                with urlopen(request, timeout=self.timeout) as answer:
                    return answer.read()
            except HTTPError as error:
                why = f"status {error.code}: {error.read(200).decode(errors='replace')}"
                again, passes = error.code in AGAIN, error.code in OF_A_TEXT
            except (URLError, OSError, HTTPException) as error:
                reason = getattr(error, "reason", error)
                why, again, passes = str(reason) or type(error).__name__, True, not isinstance(reason, UNREACHABLE)
                late = isinstance(reason, TimeoutError)
            if not again or attempt == self.retries:
                tries = f"after {attempt + 1} tries" if attempt else "at once"
                told = f"{self._url} failed {tries} ({why.strip()})"
                if passes:
                    raise NoAnswerError(told, late)
                raise EndpointError(f"{told}: check base_url, model and api_key")
            time.sleep(self.pause * 2**attempt)
