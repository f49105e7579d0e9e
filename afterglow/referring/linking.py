"""Where a referral link leads: to the shop's own site, whatever a file says."""

from urllib.parse import quote, urlencode, urlsplit


def own_page(page: str | None, shop_url: str) -> str:
    """The programme's page where it is on the shop's site; else the shop's own address."""
    return page if page is not None and is_own(page, shop_url) else shop_url


def carrying(page: str, code: str) -> str:
    """The address at Shopify that puts a discount code into the cart and then shows a page of the same site.

    https://help.shopify.com/manual/discounts/managing-discount-codes, "Share a discount"
    """
    parts = urlsplit(page)
    after = parts._replace(scheme="", netloc="", path=parts.path or "/").geturl()
    discount = f"/discount/{quote(code, safe='')}"
    return parts._replace(path=discount, query=urlencode({"redirect": after}), fragment="").geturl()


def is_own(page: str, shop_url: str) -> bool:
    """Whether an address is on the shop's site: the same host or one below it, by the same scheme or by https.

    An address with a user name or a backslash in it, which readers understand in different ways, is on nobody's.
    """
    try:
        there, shop = urlsplit(page), urlsplit(shop_url)
    except ValueError:
        return False
    if there.hostname is None or shop.hostname is None or "@" in there.netloc or "\\" in page:
        return False
    if there.scheme not in {"https", shop.scheme} or not page.isprintable():
        return False
    return there.hostname == shop.hostname or there.hostname.endswith("." + shop.hostname.removeprefix("www."))
