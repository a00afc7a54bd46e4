//! Where the tensors live.

use burn::tensor::Device;

use crate::error::Error;

/// The devices of this build by name; features add more.
pub static DEVICES: &[&str] = &[
    "flex",
    #[cfg(feature = "vulkan")]
    "vulkan",
    #[cfg(feature = "wgpu")]
    "wgpu",
    #[cfg(feature = "metal")]
    "metal",
    #[cfg(feature = "cuda")]
    "cuda",
];

/// The device called `name`, tracking gradients.
///
/// # Errors
/// [`Error::Unknown`] when this build has no such device.
pub fn find(name: &str) -> Result<Device, Error> {
    let device = match name {
        "flex" => Device::flex(),
        #[cfg(feature = "vulkan")]
        "vulkan" => Device::vulkan(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "wgpu")]
        "wgpu" => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "metal")]
        "metal" => Device::metal(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "cuda")]
        "cuda" => Device::cuda(0),
        _ => {
            let mut hint = crate::suggest::hint(name, DEVICES.iter().copied());
            if ["vulkan", "wgpu", "metal", "cuda"].contains(&name) {
                hint = format!("; build kshot with --features {name}");
            }
            return Err(Error::Unknown {
                what: "device",
                name: name.to_owned(),
                hint,
            });
        }
    };
    Ok(device.autodiff())
}
