"""A language model that needs no key: it always says the same, at the pace of a real one."""

import time

TEXT = "从前有一座山，山里有一座庙 🏯。庙里有个老和尚在讲故事：the lamp is lit, and nothing is lost 🕯️。"
SECONDS_PER_TOKEN = 0.03


class LanguageModel:
    def generate_stream(self, prompt):
        for start in range(0, len(TEXT), 2):
            time.sleep(SECONDS_PER_TOKEN)
            yield TEXT[start : start + 2]


llm_client = LanguageModel()
