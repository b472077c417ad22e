"""Chooses a level's prompts where genai-bench's own way does not do: the user's own, or drawn ones that begin alike.

Runs in the forked child of driver.py. It stands where genai-bench 0.0.5 makes one chat request (sampling/text.py,
`_sample_chat_request`), so that whoever asks the sampler, and when, makes no difference. genai-bench's own dataset mode
draws prompts with replacement and sends `max_tokens: null`; its own prefix is one for all levels, and with a ratio only
prompts of equal length share one. Standard library only.
"""

import importlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

SEPARATOR_BYTES = 2  # of chance between prefix and rest, as genai-bench has it: what follows a prefix is never shared
ONE_TOKEN = 1

Make = Callable[[Any, Any], Any]


def install(command: Mapping[str, Any]) -> None:
    """Let genai-bench's text sampler choose as the command says; where it is to warm the cache, do that and leave.

    A level whose prompts are genai-bench's own is left alone.
    """
    chosen = command.get("chosen")
    if not chosen:
        return
    text = importlib.import_module("genai_bench.sampling.text").TextSampler
    begin = text.__init__

    def made(sampler: Any, *given: Any, **named: Any) -> None:
        begin(sampler, *given, **named)
        make = own(sampler, chosen) if chosen["asks"] else alike(sampler, chosen, command["seed"])
        sampler._sample_chat_request = make  # noqa: SLF001 - the one place where a chat request is made
        if command.get("warms"):
            warm(sampler, chosen, command)
            raise SystemExit(0)

    text.__init__ = made
    user = importlib.import_module("genai_bench.user.openai_user").OpenAIUser
    user.build_messages = _messages(user.build_messages)


def own(sampler: Any, chosen: Mapping[str, Any]) -> Callable[[Any], Any]:
    """The user's prompts, one after the other; each user of genai-bench makes one more than it sends."""
    asks: Iterator[Mapping[str, Any]] = cycle(chosen["asks"])
    return lambda _scenario: request(sampler, next(asks), is_past_stop=chosen["ignore_eos"])


def request(sampler: Any, ask: Mapping[str, Any], *, is_past_stop: bool) -> Any:
    """One of genai-bench's requests with the messages of the user's own."""
    answer = ask["answer"]
    text = "\n".join(content for _, content in ask["messages"])
    return _chat(
        sampler,
        text,
        max(ONE_TOKEN, sampler.get_token_length(answer) if isinstance(answer, str) else answer),
        ignore_eos=is_past_stop,
        messages=[{"role": role, "content": content} for role, content in ask["messages"]],
    )


def alike(sampler: Any, chosen: Mapping[str, Any], seed: int) -> Callable[[Any], Any]:
    """Prompts that begin with one of the level's prefixes, each as often as the others, in an order of chance."""
    beginnings = prefixes(sampler, chosen, seed)
    turns = _turns(len(beginnings), seed)

    def make(scenario: Any) -> Any:
        tokens, answer = scenario.sample()
        size = prefix_size(chosen, tokens)
        text = begun(sampler, beginnings[next(turns)][:size], max(tokens, size + 1))
        return _chat(sampler, text, answer, ignore_eos=True)

    return make


def prefixes(sampler: Any, chosen: Mapping[str, Any], seed: int) -> list[list[int]]:
    """The tokens of each prefix, made of genai-bench's text; others for another seed, and so for another level."""
    longest = chosen["longest_prefix"]
    texts = (
        sampler._generate_text_from_dataset(longest, rng=random.Random(f"{seed} prefix {number}"))  # noqa: SLF001, S311
        for number in range(chosen["prefixes"])
    )
    return [sampler.tokenizer.encode(text, add_special_tokens=False)[:longest] for text in texts]


def prefix_size(chosen: Mapping[str, Any], tokens: int) -> int:
    """Tokens of the prefix of a prompt of so many: at least one is left for the prompt itself."""
    ratio = chosen["prefix_ratio"]
    return max(1, min(tokens - 1, int(tokens * ratio))) if ratio is not None else int(chosen["prefix_tokens"])


def begun(sampler: Any, prefix: Sequence[int], tokens: int) -> str:
    """A prompt of so many tokens: the prefix, four characters of chance, and genai-bench's text."""
    head = sampler.tokenizer.decode(prefix, skip_special_tokens=True)
    separator = random.randbytes(SEPARATOR_BYTES).hex()  # noqa: S311 - seeded with the level
    ids = sampler.tokenizer.encode(separator, add_special_tokens=False)[: tokens - len(prefix)]
    rest = tokens - len(prefix) - len(ids)
    tail = sampler._generate_text_from_dataset(rest) if rest > 0 else ""  # noqa: SLF001
    return f"{head}{sampler.tokenizer.decode(ids, skip_special_tokens=True)}{tail}"


def _turns(count: int, seed: int) -> Iterator[int]:
    """0 to count - 1, each once before any comes again."""
    chance = random.Random(f"{seed} turns")  # noqa: S311
    while True:
        yield from chance.sample(range(count), count)


def _chat(sampler: Any, text: str, max_tokens: int, *, ignore_eos: bool, messages: object = None) -> Any:
    """genai-bench's chat request. It leaves `messages` out of the payload (user/openai_user.py): they ride along."""
    from genai_bench.protocol import UserChatRequest

    more = {**sampler.additional_request_params, "ignore_eos": ignore_eos}
    return UserChatRequest(
        model=sampler.model,
        prompt=text,
        num_prefill_tokens=sampler.get_token_length(text),
        max_tokens=max_tokens,
        additional_request_params={**more, "messages": messages} if messages else more,
    )


def _messages(build: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """genai-bench's `build_messages`, but for requests that bring their own."""

    def built(user: Any, user_request: Any, content: Any) -> list[Any]:
        own_ones: list[Any] | None = user_request.additional_request_params.get("messages")
        return own_ones or build(user, user_request, content)

    return built


def warm(sampler: Any, chosen: Mapping[str, Any], command: Mapping[str, Any]) -> None:
    """Send what the level's requests share, for answers of one token, as many at a time as the level has users.

    Raises:
        RuntimeError: one was not answered; the message has the server's words.
    """
    from gevent.pool import Pool

    chats = list(_warming(sampler, chosen, command))
    url, headers = _address(command)
    started = time.monotonic()
    said = Pool(command["users"]).map(lambda chat: _answered(url, headers, sampler.model, chat), chats)
    if wrong := next(filter(None, said), None):
        raise RuntimeError(f"the prefix cache could not be warmed: {wrong}")
    print(f"warmed by {len(chats)} requests in {time.monotonic() - started:.2f} s")  # to the level's console


def _warming(sampler: Any, chosen: Mapping[str, Any], command: Mapping[str, Any]) -> Iterator[list[dict[str, str]]]:
    """Messages: of others of the user's prompts, or the prefixes, each once, and as many in all as there are users."""
    if chosen["asks"]:
        yield from ([{"role": role, "content": text} for role, text in ask["messages"]] for ask in chosen["warming"])
        return
    beginnings = prefixes(sampler, chosen, command["seed"])
    count = -(-command["users"] // len(beginnings)) * len(beginnings)
    for tokens in islice(cycle(beginnings), count):
        yield [{"role": "user", "content": sampler.tokenizer.decode(tokens, skip_special_tokens=True)}]


def _address(command: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    argv = command["argv"]
    base = argv[argv.index("--api-base") + 1]
    key = command.get("api_key")
    return f"{base}/v1/chat/completions", {"Authorization": f"Bearer {key}"} if key else {}


def _answered(url: str, headers: Mapping[str, str], model: str, messages: list[dict[str, str]]) -> str | None:
    """None, or what went wrong. The end of the call is its deadline: who waits for this process ends it."""
    import requests

    payload = {"model": model, "messages": messages, "max_tokens": ONE_TOKEN, "temperature": 0.0}
    try:
        answer = requests.post(url, json=payload, headers=headers)  # noqa: S113
    except requests.RequestException as error:
        return type(error).__name__
    return None if answer.ok else f"HTTP {answer.status_code}: {' '.join(answer.text.split())[:300]}"
