"""Times, rates, operations and bytes in words."""


def rate(images: int, seconds: float) -> str:
    """2.5/s, 12/min, 7.1/h."""
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        value = images / max(seconds, 1e-9) * length
        if value >= 1 or unit == "h":
            return f"{value:.2g}/{unit}" if value < 100 else f"{value:.0f}/{unit}"
    raise AssertionError


def clock(seconds: float) -> str:
    """12 s, 3:07 min, 2:05:09 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d} h"


def traffic(count: float) -> str:
    """Bytes that go through memory: 98.1 TB, 12.5 GB."""
    return f"{count / 1e12:.4g} TB" if count >= 1e12 else f"{count / 1e9:.4g} GB"


def amount(flops: float) -> str:
    """874.2 PFLOP, 3.719 TFLOP."""
    return f"{flops / 1e15:.4g} PFLOP" if flops >= 1e15 else f"{flops / 1e12:.4g} TFLOP"
