//! Where the tensors live.

use burn::tensor::{Device, Tensor};

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
/// [`Error::Unknown`] when this build has no such device, [`Error::Setting`] when the machine has none.
pub fn find(name: &str) -> Result<Device, Error> {
    let device = named(name)?;
    if name != "flex" {
        probe(name, &device)?;
    }
    Ok(device.autodiff())
}

/// The tensor engine panics where a device is missing; here that becomes an error.
fn probe(name: &str, device: &Device) -> Result<(), Error> {
    let device = device.clone();
    let sum = std::panic::catch_unwind(move || {
        Tensor::<1>::ones([4], &device)
            .sum()
            .into_data()
            .iter::<f32>()
            .next()
    });
    match sum {
        Ok(Some(4.0)) => Ok(()),
        _ => Err(Error::Setting {
            name: "device",
            problem: format!(
                "this machine has no usable {name} device; install its driver or take --device flex"
            ),
        }),
    }
}

fn named(name: &str) -> Result<Device, Error> {
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
    Ok(device)
}
