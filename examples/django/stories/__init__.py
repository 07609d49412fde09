"""An application that lets a language model rewrite stories."""
