"""A sweep and what the store knows of it in; one page that can be sent to somebody out.

gather(sweep, plan, folder, ...) -> Contents     what there is to say, read from the store
page(contents) -> str                            a page that loads nothing from anywhere
"""

from sweeper.report.contents import Contents, gather
from sweeper.report.page import page

__all__ = ["Contents", "gather", "page"]
