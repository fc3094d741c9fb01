/* Runs a kernel that `kdsl build --target vulkan` wrote: plain Vulkan 1.1, no Python.
 *
 *     kdsl build kernels.py:matmul --target vulkan -o out
 *     cc -DKERNEL=matmul -I out -o host host.c -lvulkan
 *     ./host out/matmul.spv M=256 N=256 K=256
 *
 * Fills element i of argument b with ((7 * i + 3 * b) % 13) / 13 (floats) or (7 * i + 3 * b) % 13 (integers),
 * runs the kernel once, and prints name, number of elements and sum of each array that it writes.
 */

#include <stdio.h>
#include <vulkan/vulkan.h>

#define JOIN(a, b) a##_##b
#define JOINED(a, b) JOIN(a, b)
#define K(name) JOINED(KERNEL, name)
#define TEXT(a) #a
#define TEXT_OF(a) TEXT(a)
#include TEXT_OF(K(manifest.h))

enum { COUNT = K(BUFFER_COUNT), ENTRIES = K(ENTRY_COUNT), BYTES = K(PARAMETER_BYTES) };
#define TIMEOUT_NS 10000000000u

#define DIE(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))
#define VK(call)                                                 \
    do {                                                         \
        VkResult result = (call);                                \
        if (result != VK_SUCCESS) DIE("%s gave %d", #call, result); \
    } while (0)

static VkPhysicalDevice physical;
static VkPhysicalDeviceProperties properties;
static VkDevice device;
static VkQueue queue;
static VkCommandBuffer commands;
static VkPipelineLayout layout;
static VkDescriptorSet set;
static VkPipeline pipelines[ENTRIES];
static VkBuffer buffers[COUNT];
static void *memory[COUNT];
static int parameter_buffer = -1, status_buffer = -1;
static uint32_t pushed; /* bytes of push constants */

/* The device and its one queue; features are those that the manifest asks for. */
static void open_device(void) {
    const VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_1};
    const VkInstanceCreateInfo instance_info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &app};
    VkInstance instance;
    VK(vkCreateInstance(&instance_info, NULL, &instance));
    uint32_t one = 1, families = 16, family = 0;
    if (vkEnumeratePhysicalDevices(instance, &one, &physical) < 0 || one == 0) DIE("no Vulkan device");
    vkGetPhysicalDeviceProperties(physical, &properties);
    printf("device %s\n", properties.deviceName);

    VkPhysicalDevice16BitStorageFeatures half = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES};
    VkPhysicalDevice8BitStorageFeatures bytes = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &half};
    const char *byte_extension = "VK_KHR_8bit_storage"; /* part of Vulkan 1.2 */
    for (const char *const *name = K(features); *name; name++) {
        if (strcmp(*name, "shaderInt64") == 0) features.features.shaderInt64 = VK_TRUE;
        else if (strcmp(*name, "shaderFloat64") == 0) features.features.shaderFloat64 = VK_TRUE;
        else if (strcmp(*name, "shaderInt16") == 0) features.features.shaderInt16 = VK_TRUE;
        else if (strcmp(*name, "storageBuffer16BitAccess") == 0) half.storageBuffer16BitAccess = VK_TRUE;
        else if (strcmp(*name, "storageBuffer8BitAccess") == 0) bytes.storageBuffer8BitAccess = VK_TRUE, half.pNext = &bytes;
        else if (strncmp(*name, "subgroup", 8) && !strstr(*name, "PreserveFloat") && !strstr(*name, "ModeRTEFloat"))
            DIE("this host does not enable %s", *name); /* those are properties, which need not be enabled */
    }
    VkQueueFamilyProperties found[16];
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &families, found);
    while (family < families && !(found[family].queueFlags & VK_QUEUE_COMPUTE_BIT)) family++;
    if (family == families) DIE("no queue for compute");
    const float priority = 1;
    const VkDeviceQueueCreateInfo queue_info = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = family, .queueCount = 1, .pQueuePriorities = &priority};
    const VkDeviceCreateInfo device_info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .pNext = &features,
        .queueCreateInfoCount = 1, .pQueueCreateInfos = &queue_info,
        .enabledExtensionCount = bytes.storageBuffer8BitAccess, .ppEnabledExtensionNames = &byte_extension};
    VK(vkCreateDevice(physical, &device_info, NULL, &device));
    vkGetDeviceQueue(device, family, 0, &queue);
    const VkCommandPoolCreateInfo pool_info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = family};
    VkCommandPool pool;
    VK(vkCreateCommandPool(device, &pool_info, NULL, &pool));
    const VkCommandBufferAllocateInfo commands_info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = pool, .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 1};
    VK(vkAllocateCommandBuffers(device, &commands_info, &commands));
}

/* A storage buffer in memory that the host sees. */
static void make_buffer(int n, VkDeviceSize bytes) {
    const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = bytes,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT};
    VK(vkCreateBuffer(device, &info, NULL, &buffers[n]));
    VkMemoryRequirements needs;
    vkGetBufferMemoryRequirements(device, buffers[n], &needs);
    VkPhysicalDeviceMemoryProperties have;
    vkGetPhysicalDeviceMemoryProperties(physical, &have);
    const VkMemoryPropertyFlags wanted = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    uint32_t type = 0;
    while (!(needs.memoryTypeBits >> type & 1 && (have.memoryTypes[type].propertyFlags & wanted) == wanted)) type++;
    const VkMemoryAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = needs.size, .memoryTypeIndex = type};
    VkDeviceMemory block;
    VK(vkAllocateMemory(device, &allocate, NULL, &block));
    VK(vkBindBufferMemory(device, buffers[n], block, 0));
    VK(vkMapMemory(device, block, 0, VK_WHOLE_SIZE, 0, &memory[n]));
    memset(memory[n], 0, bytes);
}

/* Layouts, the descriptor set of all buffers, a pipeline for each entry point of the module. */
static void make_pipelines(const char *path) {
    VkDescriptorSetLayoutBinding bindings[COUNT] = {{0}};
    VkDescriptorBufferInfo infos[COUNT];
    VkWriteDescriptorSet writes[COUNT];
    for (int n = 0; n < COUNT; n++)
        bindings[n] = (VkDescriptorSetLayoutBinding){.binding = (uint32_t)K(buffers)[n].binding,
            .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, .descriptorCount = 1,
            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    const VkDescriptorSetLayoutCreateInfo set_info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = COUNT, .pBindings = bindings};
    VkDescriptorSetLayout set_layout;
    VK(vkCreateDescriptorSetLayout(device, &set_info, NULL, &set_layout));
    const VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, pushed};
    const VkPipelineLayoutCreateInfo layout_info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1, .pSetLayouts = &set_layout,
        .pushConstantRangeCount = pushed > 0, .pPushConstantRanges = &range};
    VK(vkCreatePipelineLayout(device, &layout_info, NULL, &layout));
    const VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, COUNT};
    const VkDescriptorPoolCreateInfo pool_info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
        .maxSets = 1, .poolSizeCount = 1, .pPoolSizes = &size};
    VkDescriptorPool pool;
    VK(vkCreateDescriptorPool(device, &pool_info, NULL, &pool));
    const VkDescriptorSetAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
        .descriptorPool = pool, .descriptorSetCount = 1, .pSetLayouts = &set_layout};
    VK(vkAllocateDescriptorSets(device, &allocate, &set));
    for (int n = 0; n < COUNT; n++) {
        infos[n] = (VkDescriptorBufferInfo){buffers[n], 0, VK_WHOLE_SIZE};
        writes[n] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstSet = set,
            .dstBinding = bindings[n].binding, .descriptorCount = 1,
            .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, .pBufferInfo = &infos[n]};
    }
    vkUpdateDescriptorSets(device, (uint32_t)COUNT, writes, 0, NULL);

    static uint32_t code[1 << 20];
    FILE *file = fopen(path, "rb");
    if (!file) DIE("cannot read %s", path);
    const size_t words = fread(code, 4, sizeof code / 4, file);
    fclose(file);
    const VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = 4 * words, .pCode = code};
    VkShaderModule module;
    VK(vkCreateShaderModule(device, &module_info, NULL, &module));
    for (int n = 0; n < ENTRIES; n++) {
        const VkComputePipelineCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
            .layout = layout, .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                .stage = VK_SHADER_STAGE_COMPUTE_BIT, .module = module, .pName = K(entries)[n]}};
        VK(vkCreateComputePipelines(device, VK_NULL_HANDLE, 1, &info, NULL, &pipelines[n]));
    }
}

static void barrier(void) {
    const VkPipelineStageFlags both = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    const VkMemoryBarrier all = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT};
    vkCmdPipelineBarrier(commands, both, both, 0, 1, &all, 0, NULL, 0, NULL);
}

/* Records one dispatch of the host program. */
static int dispatch(void *host, int entry, const uint32_t groups[3], const unsigned char *parameters) {
    const VkPhysicalDeviceLimits *limits = host;
    for (int axis = 0; axis < 3; axis++)
        if (groups[axis] > limits->maxComputeWorkGroupCount[axis]) DIE("too many work-groups");
    barrier();
    if (parameter_buffer >= 0) {
        vkCmdUpdateBuffer(commands, buffers[parameter_buffer], 0, BYTES, parameters);
        barrier();
    } else if (pushed > 0) {
        vkCmdPushConstants(commands, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, pushed, parameters);
    }
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipelines[entry]);
    vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, layout, 0, 1, &set, 0, NULL);
    vkCmdDispatch(commands, groups[0], groups[1], groups[2]);
    return 0;
}

/* Fills an array, or prints the sum of its elements. */
#define EACH(type, name, of_i)                                             \
    if (strcmp(b->dtype, name) == 0) {                                     \
        type *x = memory[n];                                               \
        for (int64_t i = 0; i < elements; i++) {                           \
            if (fill) x[i] = (type)of_i;                                   \
            else sum += (double)x[i];                                      \
        }                                                                  \
    } else

static void each(int n, int64_t elements, int fill) {
    const K(buffer) *b = &K(buffers)[n];
    double sum = 0;
    EACH(float, "f32", ((7 * i + 3 * n) % 13 / 13.0))
    EACH(double, "f64", ((7 * i + 3 * n) % 13 / 13.0))
    EACH(int8_t, "i8", ((7 * i + 3 * n) % 13))
    EACH(uint8_t, "u8", ((7 * i + 3 * n) % 13))
    EACH(int16_t, "i16", ((7 * i + 3 * n) % 13))
    EACH(uint16_t, "u16", ((7 * i + 3 * n) % 13))
    EACH(int32_t, "i32", ((7 * i + 3 * n) % 13))
    EACH(uint32_t, "u32", ((7 * i + 3 * n) % 13))
    EACH(int64_t, "i64", ((7 * i + 3 * n) % 13))
    EACH(uint64_t, "u64", ((7 * i + 3 * n) % 13))
    DIE("this host has no arrays of %s", b->dtype);
    if (!fill) printf("%s %lld %.17g\n", b->name, (long long)elements, sum);
}

int main(int argc, char **argv) {
    K(values) values = {0};
    if (argc < 2) DIE("usage: %s KERNEL.spv SIZE=NUMBER ...", argv[0]);
    for (int n = 2; n < argc; n++) {
        char *equals = strchr(argv[n], '=');
        if (equals) *equals = 0;
        if (!equals || !K(set)(&values, argv[n], equals + 1)) DIE("%s is no size or scalar", argv[n]);
    }
    const char *failing = K(check)(&values);
    if (failing) DIE("%s", failing);

    open_device();
    pushed = K(PUSH) ? BYTES : 0;
    for (int n = 0; n < COUNT; n++) {
        const K(buffer) *b = &K(buffers)[n];
        const int64_t elements = K(elements)(n, &values);
        if (strcmp(b->kind, "status") == 0) status_buffer = n;
        if (strcmp(b->kind, "parameters") == 0) parameter_buffer = n;
        make_buffer(n, 256 + ((VkDeviceSize)(elements * b->element_bytes) + BYTES + 3) / 4 * 4);
        if (strcmp(b->kind, "argument") == 0) each(n, elements, 1);
    }
    make_pipelines(argv[1]);

    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    VK(vkBeginCommandBuffer(commands, &begin));
    K(run)(&values, dispatch, &properties.limits);
    const VkMemoryBarrier to_host = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT, .dstAccessMask = VK_ACCESS_HOST_READ_BIT};
    vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &to_host,
        0, NULL, 0, NULL);
    VK(vkEndCommandBuffer(commands));
    const VkFenceCreateInfo fence_info = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    VkFence done;
    VK(vkCreateFence(device, &fence_info, NULL, &done));
    const VkSubmitInfo submit = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &commands};
    VK(vkQueueSubmit(queue, 1, &submit, done));
    VK(vkWaitForFences(device, 1, &done, VK_TRUE, TIMEOUT_NS));

    const uint32_t *status = status_buffer < 0 ? NULL : memory[status_buffer];
    if (status && status[3]) {
        int64_t value;
        memcpy(&value, status + 4, sizeof value);
        DIE("%s (value %lld)", K(sites)[status[3]], (long long)value);
    }
    for (int n = 0; n < COUNT; n++)
        if (strcmp(K(buffers)[n].kind, "argument") == 0 && K(buffers)[n].written) each(n, K(elements)(n, &values), 0);
    return 0;
}
