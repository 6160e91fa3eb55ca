"""The stock openai clients behind the guard."""
