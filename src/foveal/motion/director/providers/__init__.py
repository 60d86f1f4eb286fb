"""Keyframe providers: who turns an instruction into keyframes."""

from typing import Protocol, runtime_checkable

from foveal.errors import UnsupportedError
from foveal.motion.director.commands import Keyframe
from foveal.motion.director.providers.scripted import Plan, Scripted


@runtime_checkable
class Provider(Protocol):
    """Anything with this method can drive `motion.generate`."""

    def plan(self, instruction: str) -> Plan:
        """Turn an instruction into keyframes, or raise `ProviderError`."""
        ...


def provider_by_name(name: str) -> Provider:
    """Return a provider by its name; only "scripted" needs nothing but that.

    Raises:
        UnsupportedError: another name.
    """
    if name != "scripted":
        raise UnsupportedError(
            f"provider_by_name: name is {name!r}, must be 'scripted'; chat models need an address "
            "or a folder, pass one to generate(provider=...), for example motion.OpenAICompatible"
        )
    return Scripted()


__all__ = ["Keyframe", "Plan", "Provider", "Scripted", "provider_by_name"]
