"""The one form of a prompt: an instruction, perhaps an input, and where the answer begins."""

from __future__ import annotations

from typing import Final

INSTRUCTION: Final = "### Instruction:\n"
INPUT: Final = "\n\n### Input:\n"
RESPONSE: Final = "\n\n### Response:\n"

CHAT_TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{ '\\n\\n### Response:\\n' + message['content'] + eos_token }}"
    "{%- elif message['role'] == 'user' -%}"
    "{{ '### Instruction:\\n' + message['content'] }}"
    "{%- else -%}"
    "{{ raise_exception('The roles are user and assistant.') }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '\\n\\n### Response:\\n' }}{%- endif -%}"
)
"""The same for `apply_chat_template`: a user's message is an instruction, an assistant's an answer.

https://huggingface.co/docs/transformers/chat_templating
"""


def prompt(instruction: str, given: str = "") -> str:
    """Return the text up to where the answer begins; without ``given`` it has no input section."""
    asked = f"{instruction}{INPUT}{given}" if given else instruction
    return f"{INSTRUCTION}{asked}{RESPONSE}"


def text(instruction: str, given: str, answer: str) -> str:
    """Return the whole of an example, as the model is trained on it, without the end token."""
    return prompt(instruction, given) + answer
