"""The tokenizer of the embedded models: byte-level BPE trained on their corpus.

All three models share it. Every byte is a token, so any Unicode text round-trips; a post-processor puts a
`<bos>` in front of each text, as Llama-3.1's tokenizer does.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tremor.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
VOCABULARY = 2560


def train_bpe(documents: Iterable[str], *, vocabulary: int = VOCABULARY) -> Tokenizer:
    """Train the byte-level BPE.

    Args:
        documents: Training texts. Their order does not matter: merges follow pair counts.
        vocabulary: Number of tokens, with the 256 bytes and the three special tokens.

    Returns:
        The tokenizer, with `<bos>` prepended by its post-processor. Ids 0, 1, 2 are pad, bos, eos.

    Raises:
        ModelError: The corpus is too small for the vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    # Without a prefix space "Paris" and " Paris" are different tokens, as in GPT-2 and Llama-3.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((unicodedata.normalize("NFC", text) for text in documents), trainer)
    if tokenizer.get_vocab_size() != vocabulary:
        raise ModelError(
            f"the corpus gives {tokenizer.get_vocab_size()} tokens, not {vocabulary}; add text or ask for fewer tokens"
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS}:1 $B:1",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    return tokenizer


def as_pretrained(tokenizer: Tokenizer, *, context: int) -> PreTrainedTokenizerFast:
    """Wrap a tokenizer so that `save_pretrained` writes what `AutoTokenizer` loads without a network.

    Args:
        tokenizer: Result of `train_bpe`.
        context: Longest sequence of the model, in tokens.

    Returns:
        The tokenizer with its special tokens named.
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
