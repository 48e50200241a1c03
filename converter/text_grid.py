"""Texts that a converted tokenizer is tried on: what two tokenizers that differ anywhere usually cut differently."""

TEXTS = (
    "Hello, world!",
    "The quick brown fox doesn't jump over 13 lazy dogs in 2026; it's THEIR turn.",
    " leading space",
    "  two leading spaces and trailing  ",
    "a  b   c    d",
    "tabs\tand\n\nnew lines\r\n  indented\n",
    "1234567 3.14 1,000,000 0x1F 2e-5",
    "na\u00efve caf\u00e9 e\u0301clair \u00dcbergr\u00f6\u00dfe",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3002\u4e2d\u6587\u53e5\u5b50",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 \u0645\u0631\u062d\u0628\u0627",
    "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7",
    "def f(x: int) -> str:\n    return f\"{x!r}\"  # done",
    "https://example.org/a?b=c&d=%20e <b>bold</b> [x](y)",
    "\u2581underlined \u00a0no-break \ufeffmark \u200bzero",
    "!!! ??? ... --- *** ((())) $5 + 5 = 10",
    "ALLCAPS camelCase snake_case kebab-case I'LL we've",
    "x",
    "",
)  # fmt: skip
