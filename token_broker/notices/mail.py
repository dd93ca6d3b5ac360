"""Mail by the operator's SMTP server: plain text, one recipient, TLS wherever the server is not this machine."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path

from gdi.kit.secret_files import read_secret_text
from token_broker.notices.webhook import NotDelivered

SECONDS = 20.0


@dataclass(frozen=True)
class Mailer:
    """`tls`: `starttls` (the usual one), `tls` from the first byte, or `none`, for a server on this machine."""

    host: str
    port: int
    sender: str
    tls: str = "starttls"
    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None

    def send(self, address: str, subject: str, text: str, notice: str) -> None:
        """Blocking. NotDelivered with why; nothing of the conversation is told, which could name the password."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self.sender, address, subject
        message["Date"] = formatdate(usegmt=True)
        message["Message-ID"] = f"<{notice}@{self.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answer
        message.set_content(text)
        try:
            with self._connection() as smtp:
                if self.user is not None and self.password_file is not None:
                    smtp.login(self.user, read_secret_text(self.password_file, "SMTP_PASSWORD_FILE"))
                smtp.send_message(message)
        except smtplib.SMTPRecipientsRefused:
            raise NotDelivered("The mail server takes no mail for your address.") from None
        except (OSError, smtplib.SMTPException) as error:
            raise NotDelivered(f"The mail server did not take it ({type(error).__name__}).") from None

    def _connection(self) -> smtplib.SMTP:
        context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        if self.tls == "tls":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=SECONDS, context=context)
        smtp = smtplib.SMTP(self.host, self.port, timeout=SECONDS)
        if self.tls == "starttls":
            try:
                smtp.starttls(context=context)
            except BaseException:
                smtp.close()
                raise
        return smtp
