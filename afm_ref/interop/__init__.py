"""Models and tokenizers from elsewhere, and for elsewhere: Hugging Face folders, RoPE
layouts.
"""
