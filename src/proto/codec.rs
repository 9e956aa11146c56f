//! Reads and writes messages as tonic's own codec does, except that bytes which are no message are the
//! caller's fault (`INVALID_ARGUMENT`) and not ours (`INTERNAL`), and are answered without a word of them.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Code, Status,
    codec::{BufferSettings, Codec as TonicCodec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstDecoder, ProstEncoder};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The codec of all our services. See the module.
#[derive(Debug)]
pub struct Codec<Encode, Decode>(PhantomData<(Encode, Decode)>);

/// The reading half of [`Codec`].
#[derive(Debug)]
pub struct StrictDecoder<Decode>(ProstDecoder<Decode>);

/// The sentence for bytes that are no message.
const MALFORMED: &str = "Invalid secret format";

// === impl Codec ===

impl<Encode, Decode> Default for Codec<Encode, Decode> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Encode, Decode> TonicCodec for Codec<Encode, Decode>
where
    Encode: Message + Send + 'static,
    Decode: Message + Default + Send + 'static,
{
    type Encode = Encode;
    type Decode = Decode;
    type Encoder = ProstEncoder<Encode>;
    type Decoder = StrictDecoder<Decode>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(ProstDecoder::new(BufferSettings::default()))
    }
}

// === impl StrictDecoder ===

impl<Decode: Message + Default> Decoder for StrictDecoder<Decode> {
    type Item = Decode;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Decode>, Status> {
        self.0
            .decode(buffer)
            .map_err(|status| if status.code() == Code::Internal { malformed() } else { status })
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

fn malformed() -> Status {
    let details = ErrorDetails::with_bad_request_violation("", "malformed");
    Status::with_error_details(Code::InvalidArgument, MALFORMED, details)
}
