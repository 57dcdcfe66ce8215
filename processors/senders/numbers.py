"""Telephone numbers as networks know them."""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType

from processors.errors import ConfigurationError


class Numbers:
    """
    Tells whether a number can be written to, by the metadata of libphonenumber.

    Args:
        countries: Countries whose numbers may be, by their two letters; empty for all.

    Raises:
        ConfigurationError: The library is not installed, or does not know a country.
    """

    def __init__(self, countries: Collection[str] = ()) -> None:
        self._library = _library()
        self._countries = frozenset(countries)
        if unknown := sorted(self._countries - self._library.SUPPORTED_REGIONS):
            raise ConfigurationError(f"PROCESSORS_SMS_COUNTRIES: there is no {', '.join(unknown)}")

    def is_number(self, number: str) -> bool:
        """Say whether it can be a number, in E.164 form; not whether it is anybody's."""
        try:
            parsed = self._library.parse(number, None)
        except self._library.NumberParseException:
            return False
        form = self._library.PhoneNumberFormat.E164
        written = self._library.format_number(parsed, form)
        return written == number and bool(self._library.is_possible_number(parsed))

    def is_allowed(self, number: str) -> bool:
        """Say whether a number belongs to a country that is written to."""
        if not self._countries:
            return True
        parsed = self._library.parse(number, None)
        return self._library.region_code_for_number(parsed) in self._countries


def _library() -> ModuleType:
    try:
        import phonenumbers
    except ImportError:
        raise ConfigurationError(
            "SMS needs another library: pip install 'streamlane[sms]'"
        ) from None
    library: ModuleType = phonenumbers
    return library
