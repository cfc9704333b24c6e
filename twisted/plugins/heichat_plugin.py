"""`twistd heichat`."""

from twisted.application.service import ServiceMaker

serviceMaker = ServiceMaker(
    "heiCHAT", "heichat_appliance.service", "Chat server of a university: Matrix homeserver in one daemon.", "heichat"
)
