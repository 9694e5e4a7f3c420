//! The interfaces for autoscalers as they are written.

use crate::config::scalar::ListenAddress;
use crate::config::shape::{Spanned, shape};
use std::time::Duration;

shape! {
    /// The interfaces for autoscalers.
    Scaling {
        /// The address of the KEDA external scaler (gRPC): IP:PORT.
        address: Spanned<ListenAddress> = optional,
        /// TLS of the external scaler.
        tls: ScalerTls = optional,
        /// A receiver that is told of desired replicas, spill and failover.
        webhook: Webhook = optional,
        /// The time that a cluster needs to start an endpoint: desired replicas are those for the demand at its end.
        lead: Spanned<Duration> = "60s",
    }
}

shape! {
    /// TLS of the external scaler.
    ScalerTls {
        /// File with the chain, the leaf first, in PEM.
        cert: Spanned<String> = required,
        /// File with the private key, in PEM.
        key: Spanned<String> = required,
        /// A file with the certificate authorities that must have signed client certificates, or with client certificates
        /// themselves.
        client_ca: Spanned<String> = optional,
    }
}

shape! {
    /// A receiver of messages about desired replicas, spill and failover.
    Webhook {
        /// Where messages are posted: https://HOST[:PORT]/PATH, or http://.
        url: Spanned<String> = required,
        /// A file with the secret that signs messages (HMAC-SHA256).
        secret_file: Spanned<String> = required,
        /// The certificate authorities for the receiver's certificate; by default those of the system.
        ca: Spanned<String> = optional,
        /// The longest time between two messages.
        interval: Spanned<Duration> = "30s",
        /// The deadline of one attempt.
        timeout: Spanned<Duration> = "5s",
    }
}
