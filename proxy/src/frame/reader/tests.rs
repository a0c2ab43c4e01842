//! What a reader promises, for any chunking of any bytes.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::*;
use crate::frame::HEADER_BYTES;

/// A peer whose bytes arrive in the given chunks.
#[derive(Debug)]
struct Chunks(VecDeque<Vec<u8>>);

impl AsyncRead for Chunks {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Some(mut chunk) = self.0.pop_front() {
            let rest = chunk.split_off(chunk.len().min(into.remaining()));
            into.put_slice(&chunk);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn reader(sender: Sender, chunks: impl IntoIterator<Item = Vec<u8>>) -> FrameReader<Chunks> {
    FrameReader::new(Chunks(chunks.into_iter().collect()), sender, Vec::new())
}

/// Cuts `bytes` into chunks at the given places.
fn cut(bytes: &[u8], places: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<_> = places
        .iter()
        .map(|place| place.index(bytes.len() + 1))
        .collect();
    places.sort_unstable();
    places.dedup();
    let ends = places.iter().copied().chain([bytes.len()]);
    let starts = [0].into_iter().chain(places.iter().copied());
    starts
        .zip(ends)
        .map(|(start, end)| bytes[start..end].to_vec())
        .filter(|chunk| !chunk.is_empty())
        .collect()
}

/// What a relay does that replaces the frames tagged `E` by nothing and assembles the ones tagged `P`.
async fn relay(
    mut reader: FrameReader<Chunks>,
) -> Result<(Vec<u8>, Vec<(u8, Vec<u8>)>), FrameError> {
    let (mut sent, mut seen) = (Vec::new(), Vec::new());
    loop {
        match reader.next()? {
            Next::Frame(frame) => {
                seen.push((frame.tag, frame.body.to_vec()));
                assert_eq!(reader.current().unwrap().tag, seen.last().unwrap().0);
                if seen.last().unwrap().0 == b'E' {
                    reader.skip();
                } else {
                    reader.pass();
                }
            }
            Next::Large(header) if header.tag == b'd' => reader.pass(),
            Next::Large(_) | Next::Wait => {
                sent.extend_from_slice(reader.run());
                reader.clear_run();
                if reader.fill().await? == 0 {
                    return Ok((sent, seen));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_chunking_yields_the_same_frames(
        frames in prop::collection::vec((prop::sample::select(&b"QPBEdS"[..]), prop::collection::vec(any::<u8>(), 0..200)), 0..20),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(tag, body)| frame(*tag, body)).collect();
        let (sent, seen) = run(relay(reader(Sender::Client, cut(&bytes, &places)))).unwrap();
        prop_assert_eq!(&seen, &frames);
        let kept: Vec<u8> = frames.iter().filter(|f| f.0 != b'E').flat_map(|(tag, body)| frame(*tag, body)).collect();
        prop_assert_eq!(sent, kept);
    }

    #[test]
    fn malformed_bytes_never_panic(
        chunks in prop::collection::vec(prop::collection::vec(prop_oneof![Just(0u8), Just(4), prop::sample::select(&b"QPBEdSZDT"[..]), any::<u8>()], 1..30), 0..20),
        sender in prop::sample::select(&[Sender::Client, Sender::Login, Sender::Server][..]),
    ) {
        let _ = run(relay(reader(sender, chunks)));
    }

    #[test]
    fn big_frames_pass_in_pieces_or_assembled(
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        sizes in prop::collection::vec((prop::sample::select(&b"dPE"[..]), 0usize..150_000), 1..6),
    ) {
        let frames: Vec<_> = sizes.iter().map(|(tag, size)| (*tag, vec![7u8; if *tag == b'E' { *size % 9_000 } else { *size }])).collect();
        let bytes: Vec<u8> = frames.iter().flat_map(|(tag, body)| frame(*tag, body)).collect();
        let (sent, seen) = run(relay(reader(Sender::Client, cut(&bytes, &places)))).unwrap();
        let kept: Vec<u8> = frames.iter().filter(|f| f.0 != b'E').flat_map(|(tag, body)| frame(*tag, body)).collect();
        prop_assert_eq!(sent, kept);
        prop_assert_eq!(seen.iter().filter(|f| f.0 == b'P').count(), frames.iter().filter(|f| f.0 == b'P').count());
    }
}

#[test]
fn a_gigabyte_passes_in_bounded_memory() {
    /// An endless peer: after one header, zeros.
    #[derive(Debug)]
    struct Zeros;
    impl AsyncRead for Zeros {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            let count = into.remaining();
            into.initialize_unfilled();
            into.advance(count);
            Poll::Ready(Ok(()))
        }
    }
    let body: usize = 0x3fff_ffff;
    let header = [&b"D"[..], &(body as u32 + 4).to_be_bytes()].concat();
    let mut reader = FrameReader::new(Zeros, Sender::Server, header);
    assert!(matches!(
        reader.next().unwrap(),
        Next::Large(Header { tag: b'D', .. })
    ));
    reader.pass();
    let (mut passed, mut peak) = (0, 0);
    run(async {
        while reader.is_within_frame() {
            assert!(matches!(reader.next().unwrap(), Next::Wait));
            passed += reader.run().len();
            reader.clear_run();
            reader.fill().await.unwrap();
            reader.settle_rest();
            peak = peak.max(reader.buffer.capacity());
        }
    });
    assert_eq!(passed + reader.run().len(), body + HEADER_BYTES);
    assert!(peak <= 2 * READ_BUFFER_BYTES, "{peak}");
}

#[test]
fn a_header_alone_does_not_claim_its_length() {
    let mut reader = reader(
        Sender::Client,
        [b"Q\x3f\xff\xff\xfe".to_vec(), b"select".to_vec()],
    );
    run(async {
        reader.fill().await.unwrap();
        assert!(matches!(reader.next().unwrap(), Next::Large(_)));
        reader.fill().await.unwrap();
    });
    assert!(reader.buffer.capacity() <= 2 * READ_BUFFER_BYTES);
}

#[test]
fn a_buffer_that_grew_is_given_back() {
    let mut reader = reader(
        Sender::Client,
        [frame(b'Q', &vec![b'x'; 1_000_000]), frame(b'S', b"")],
    );
    run(async {
        while !matches!(reader.next().unwrap(), Next::Frame(_)) {
            reader.fill().await.unwrap();
        }
        reader.pass();
        reader.clear_run();
        reader.fill().await.unwrap();
    });
    assert!(reader.buffer.capacity() <= 2 * READ_BUFFER_BYTES);
    assert!(matches!(
        reader.next().unwrap(),
        Next::Frame(Frame { tag: b'S', .. })
    ));
}

#[test]
fn an_end_within_a_frame_is_not_an_end_between_frames() {
    run(async {
        let mut whole = reader(Sender::Client, [frame(b'S', b"")]);
        whole.fill().await.unwrap();
        assert!(matches!(whole.next().unwrap(), Next::Frame(_)));
        whole.skip();
        assert_eq!(whole.fill().await.unwrap(), 0);

        let mut torn = reader(Sender::Client, [b"S\0\0".to_vec()]);
        torn.fill().await.unwrap();
        assert!(matches!(torn.next().unwrap(), Next::Wait));
        assert!(matches!(
            torn.fill().await,
            Err(FrameError::Truncated {
                sender: Sender::Client
            })
        ));
    });
}

#[test]
fn hands_over_what_was_read_too_much() {
    let bytes = [frame(b'p', b"pw\0"), frame(b'Q', b"select 1\0")].concat();
    let mut reader = reader(Sender::Login, [bytes]);
    run(async { reader.fill().await.unwrap() });
    assert!(matches!(reader.next().unwrap(), Next::Frame(_)));
    reader.skip();
    let (io, early) = reader.into_parts();
    let mut reader = FrameReader::new(io, Sender::Client, early);
    assert!(matches!(
        reader.next().unwrap(),
        Next::Frame(Frame { tag: b'Q', .. })
    ));
}
