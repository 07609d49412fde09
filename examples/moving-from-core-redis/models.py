"""The models that the tasks call, as a stand-in: they answer by script. Nothing here streams."""

TEXT = "从前有一座山，山里有一座庙 🏯。"
PICTURES = 3


class LanguageModel:
    """Says its text token by token, and breaks off as often as the prompt asks for: "…；失败2次"."""

    def generate_stream(self, prompt, attempt):
        breaks_off = attempt < int(prompt.partition("失败")[2].rstrip("次") or 0)
        for number, token in enumerate(TEXT):
            if breaks_off and number == len(TEXT) // 2:
                raise ConnectionError("API调用失败: 超时")
            yield token


class ImageModel:
    """Draws pictures one after the other."""

    def draw(self, text):
        for number in range(1, PICTURES + 1):
            yield {"url": f"https://example.com/{number}.png"}
