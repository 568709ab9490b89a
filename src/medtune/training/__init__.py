"""Fine-tune a base on prepared rows with TRL, PEFT and bitsandbytes."""
