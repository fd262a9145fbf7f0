"""How much of anything is accepted, in one place (design: security, limits)."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    body_bytes: int = 8 * MIB
    chunk_bytes: int = 4 * MIB
    control_message_bytes: int = 64 * 1024
    transport_message_bytes: int = 256 * 1024
    artifact_bytes: int = 256 * MIB
    upload_bytes: int = 4096 * MIB
    archive_members: int = 20_000
    archive_ratio: int = 100
    voxels: int = 1024 * 1024 * 512
    parser_memory_bytes: int = 1024 * MIB
    parser_cpu_seconds: int = 120
    parser_seconds: float = 300.0
    prefer_wait_seconds: float = 60.0
    long_poll_seconds: float = 20.0
    hello_seconds: float = 10.0
    handshake_seconds: float = 5.0
    data_token_seconds: float = 900.0
    upload_ttl_seconds: float = 24 * 3600.0
    mask_push_bytes: int = 4 * MIB
    mask_frame_bytes: int = 256 * 1024
    preview_bytes: int = 48 * 1024
    enrol_token_seconds: float = 3600.0
    socket_messages_per_second: float = 20.0
    socket_messages_burst: int = 60
    sockets_per_user: int = 20
    unknown_sockets_per_address: int = 200
    unknown_frame_bytes: int = 4096
    ticket_seconds: float = 30.0
    requests_per_minute: int = 60
    queued_jobs: int = 10_000
    failures_per_minute: int = 5
    key_days: float = 90.0
    log_days: float = 30.0
    """How long the steps of a job that has ended can be read one by one."""
    api_token_days: float = 365.0
    old_key_seconds: float = 600.0
    database_connections: int = 32
