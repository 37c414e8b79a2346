//! What comes in at the socket, as the fuzzer and the tests of what it found give it to the parser.

use super::protocol::Request;
use super::server::understand;

/// One line of a client.
pub fn protocol(bytes: &[u8]) {
    let envelope = match understand(bytes) {
        Ok(envelope) => envelope,
        Err(refused) => {
            assert!(refused.exit != 0 && refused.message.is_some());
            return;
        }
    };
    if let Request::Item { scope } | Request::Why { scope } = &envelope.request {
        let _bytes = scope.bytes();
    }
    let line = super::to_line(&envelope);
    assert!(!line.contains('\n'), "{line}");
    assert!(understand(line.as_bytes()).is_ok_and(|again| again == envelope), "{line}");
}
