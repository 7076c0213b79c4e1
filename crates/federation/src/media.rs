//! Files of other servers (server-server API, "Content Repository").

use ::media::{ByteStream, Mxc, RemoteError, RemoteFile, RemoteMedia};
use bytes::BytesMut;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use http::HeaderMap;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use remote::{Call, PeerError, Peers, outgoing, segment};
use std::io;
use std::time::Duration;

/// How long a file may take besides waiting for its upload.
const TIMEOUT: Duration = Duration::from_mins(5);
/// The largest head of an answer in parts: all that comes before the file.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Asks other servers for their files.
#[derive(Clone, Debug)]
pub struct PeerMedia {
    /// The way to them.
    pub peers: Peers,
    /// The largest file that is taken.
    pub file_bytes_max: usize,
}

impl RemoteMedia for PeerMedia {
    fn fetch<'a>(&'a self, mxc: &'a Mxc, timeout: Duration) -> BoxFuture<'a, Result<RemoteFile, RemoteError>> {
        Box::pin(async move {
            let wait = timeout.as_millis();
            let id = segment(mxc.id());
            let new = format!("/_matrix/federation/v1/media/download/{id}?timeout_ms={wait}");
            match self.ask(mxc, new, timeout).await {
                Ok(answer) => in_parts(answer).await,
                // Servers from before authenticated media.
                Err(error) if error.is_unrecognized() => {
                    let origin = segment(mxc.origin().as_str());
                    let old = format!("/_matrix/media/v3/download/{origin}/{id}?allow_remote=false&timeout_ms={wait}");
                    let (head, body) = self.ask(mxc, old, timeout).await.map_err(failed)?.into_parts();
                    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
                    Ok(file(&head.headers, length, body.map_err(io::Error::other).boxed()))
                }
                Err(error) => Err(failed(error)),
            }
        })
    }
}

impl PeerMedia {
    async fn ask(
        &self,
        mxc: &Mxc,
        path: String,
        timeout: Duration,
    ) -> Result<http::Response<outgoing::BodyStream>, PeerError> {
        let call = Call::get(path).timeout(timeout + TIMEOUT).body_bytes_max(self.file_bytes_max + HEAD_BYTES_MAX);
        self.peers.send_streamed(mxc.origin(), call).await
    }
}

fn failed(error: PeerError) -> RemoteError {
    match error {
        PeerError::Refused { errcode: Some(code), .. } if code == "M_NOT_YET_UPLOADED" => RemoteError::NotYetUploaded,
        PeerError::Refused { errcode: Some(code), .. } if code == "M_TOO_LARGE" => RemoteError::TooLarge,
        PeerError::Refused { status: 404, .. } => RemoteError::NotFound,
        PeerError::Unreachable(outgoing::Error::TooLarge) => RemoteError::TooLarge,
        error => RemoteError::Failed(error.to_string()),
    }
}

fn file(headers: &HeaderMap, length: Option<u64>, body: ByteStream) -> RemoteFile {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let filename = text(CONTENT_DISPOSITION).and_then(|disposition| filename(&disposition));
    RemoteFile { content_type: text(CONTENT_TYPE), filename, length, body }
}

/// The name in a `Content-Disposition`.
fn filename(disposition: &str) -> Option<String> {
    let params = || disposition.split(';').skip(1).filter_map(|param| param.trim().split_once('='));
    let param = |name: &str| params().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    if let Some(encoded) = param("filename*").and_then(|value| value.rsplit_once("''")).map(|(_, value)| value) {
        return decode(encoded);
    }
    param("filename").map(|value| value.trim_matches('"').to_owned()).filter(|name| !name.is_empty())
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digit =
                    |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                (digit(rest.next())? << 4) | digit(rest.next())?
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

/// The file of an answer in two parts, of which the first says something about the second.
async fn in_parts(answer: http::Response<outgoing::BodyStream>) -> Result<RemoteFile, RemoteError> {
    let broken = |why: &str| RemoteError::Failed(format!("the answer is not in two parts: {why}"));
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let boundary = kind.split(';').find_map(|param| param.trim().strip_prefix("boundary="));
    let boundary =
        boundary.map(|boundary| boundary.trim_matches('"').to_owned()).filter(|boundary| !boundary.is_empty());
    let delimiter = format!("--{}", boundary.ok_or_else(|| broken("no boundary"))?);
    let mut body = answer.into_body();
    let mut buffer = BytesMut::new();
    let (head, rest) = loop {
        if let Some((head, rest)) = second_head(&buffer, delimiter.as_bytes()) {
            break (buffer.get(head).map(<[u8]>::to_vec).unwrap_or_default(), rest);
        }
        if buffer.len() > HEAD_BYTES_MAX {
            return Err(broken("its head is too large"));
        }
        let chunk = body.next().await.ok_or_else(|| broken("it ends too early"))?;
        buffer.extend_from_slice(&chunk.map_err(|error| RemoteError::Failed(error.to_string()))?);
    };
    let head = String::from_utf8(head).map_err(|_| broken("its head is no text"))?;
    let mut headers = HeaderMap::new();
    for line in head.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or_else(|| broken("a header has no name"))?;
        let name = http::HeaderName::from_bytes(name.trim().as_bytes());
        if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_str(value.trim())) {
            headers.insert(name, value);
        }
    }
    if headers.contains_key(http::header::LOCATION) {
        return Err(broken("it leads elsewhere"));
    }
    let begun = buffer.split_off(rest);
    let end = format!("\r\n{delimiter}");
    Ok(file(&headers, None, up_to(begun, body, end.into_bytes())))
}

/// Where the head of the second part is, and where what follows it begins.
fn second_head(buffer: &[u8], delimiter: &[u8]) -> Option<(std::ops::Range<usize>, usize)> {
    let first = find(buffer, delimiter, 0)? + delimiter.len();
    let second = find(buffer, delimiter, first)? + delimiter.len();
    let end = find(buffer, b"\r\n\r\n", second)?;
    Some((second..end, end + 4))
}

fn find(bytes: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    bytes.get(from..)?.windows(wanted.len()).position(|window| window == wanted).map(|at| at + from)
}

/// What comes before an end, which must come.
fn up_to(begun: BytesMut, body: outgoing::BodyStream, end: Vec<u8>) -> ByteStream {
    let state = (begun, Some(body));
    let parts = futures::stream::try_unfold(state, move |(mut buffer, mut body)| {
        let end = end.clone();
        async move {
            loop {
                let Some(more) = &mut body else { return Ok(None) };
                if let Some(at) = find(&buffer, &end, 0) {
                    return Ok(Some((buffer.split_to(at).freeze(), (BytesMut::new(), None))));
                }
                // The end may be begun already: so much is kept back.
                let sure = buffer.len().saturating_sub(end.len());
                if sure > 0 {
                    return Ok(Some((buffer.split_to(sure).freeze(), (buffer, body))));
                }
                match more.next().await {
                    Some(Ok(chunk)) => buffer.extend_from_slice(&chunk),
                    Some(Err(error)) => return Err(io::Error::other(error)),
                    None => return Err(io::Error::other("the file was cut off")),
                }
            }
        }
    });
    parts.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    async fn read(answer: &str, chunk: usize) -> Result<(Option<String>, Option<String>, String), String> {
        let chunks: Vec<_> = answer.as_bytes().chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let body: outgoing::BodyStream = futures::stream::iter(chunks).boxed();
        let answer = http::Response::builder().header(CONTENT_TYPE, "multipart/mixed; boundary=\"x1\"").body(body);
        let file = in_parts(answer.unwrap()).await.map_err(|error| error.to_string())?;
        let bytes: Vec<Bytes> = file.body.try_collect().await.map_err(|error| error.to_string())?;
        Ok((file.content_type, file.filename, String::from_utf8(bytes.concat()).unwrap()))
    }

    #[tokio::test]
    async fn the_second_part_is_the_file() {
        let answer = "--x1\r\nContent-Type: application/json\r\n\r\n{}\r\n--x1\r\nContent-Type: text/plain\r\n\
                      Content-Disposition: attachment; filename*=utf-8''%C3%A9.txt\r\n\r\nhello\r\n--x\r\nmore\r\n--x1--\r\n";
        for chunk in [1, 7, 1000] {
            let expected = (Some("text/plain".to_owned()), Some("é.txt".to_owned()), "hello\r\n--x\r\nmore".to_owned());
            assert_eq!(read(answer, chunk).await.unwrap(), expected);
        }
        assert!(read(&answer[..answer.len() - 10], 7).await.unwrap_err().contains("cut off"));
        assert!(read("hello", 7).await.is_err());
        assert!(read(&"y".repeat(100_000), 1000).await.unwrap_err().contains("too large"));
    }

    #[test]
    fn names_of_files_are_read_in_both_notations() {
        assert_eq!(filename("inline; filename=\"a b.png\"").as_deref(), Some("a b.png"));
        assert_eq!(filename("inline; filename=a.png").as_deref(), Some("a.png"));
        assert_eq!(filename("attachment; filename*=utf-8''a%20b").as_deref(), Some("a b"));
        assert_eq!(filename("inline"), None);
    }
}
