"""Load a base model, its tokenizer and an adapter; render dialogues as the model reads them."""

import logging

# At import bitsandbytes warns of optional kernels that it does without; peft imports it.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
